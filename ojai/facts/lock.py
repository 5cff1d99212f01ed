"""What a lock is made from: packages as they are and as apt would install them, and what registry and hub have now."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyinfra.api import FactBase

from ojai.facts import script
from ojai.facts.apt import LISTS_READ, OTHER_PINS
from ojai.weights import upstream

#: apt on a machine with nothing installed: the packages of a family and all that they need. Its caches stay. Our own
#: pins are left out: they say what was locked before.
_PACKAGES = r"""
%OTHER_PINS%
dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Version}\t${Pre-Depends}, ${Depends}\t${db-fsys:Last-Modified}\n' |
  sed -nE 's/^(installed|triggers-[a-z]*)\t/installed\t/p' |
  awk -F '\t' -v names="$names" -v mark="$mark" -v asked=" $asked " '
    $2 ~ names || index($3, mark) || index(asked, " " $2 " ")'
for family; do
  # shellcheck disable=SC2086
  LC_ALL=C apt-get -q --simulate --no-install-recommends -o Dir::State::status=/dev/null \
    -o Dir::Etc::preferencesparts="$pins" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
    -o APT::Get::Always-Include-Phased-Updates=true install ${family#*:} 2>/dev/null |
    sed -n "s/^Inst \([^ ]*\) (\([^ ]*\) .*/candidate\t${family%%:*}\t\1\t\2/p"
done
rm -rf "$pins"
newest=%LISTS_READ%
[ -z "$newest" ] || printf 'age\t%s\n' "$(($(date +%s) - newest))"
""".replace("%OTHER_PINS%", OTHER_PINS).replace("%LISTS_READ%", LISTS_READ)


@dataclass(frozen=True)
class Resolved:
    """Packages.

    + installed: name -> version, and the names that it depends on
    + candidates: family -> name -> version that apt would install, with all that it needs
    + since: name -> when its version was installed (seconds since 1970)
    + lists_age: seconds since apt last read what the archives have
    """

    installed: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    candidates: dict[str, dict[str, str]] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    lists_age: int | None = None

    def closure(self, roots: Iterable[str]) -> dict[str, str]:
        """Those that are installed of ``roots``, and what they need of the others; none where a root is missing."""
        found: dict[str, str] = {}
        waiting = list(roots)
        if not all(name in self.installed for name in waiting):
            return {}
        while waiting:
            name = waiting.pop()
            if name in self.installed and name not in found:
                found[name], needed = self.installed[name]
                waiting += needed
        return found


class ResolvedPackages(FactBase[Resolved]):
    """What a host has, and what apt would install on it, of the families of packages: :class:`Resolved`.

    + families: family -> its packages
    + names: regular expression (POSIX, extended) for the names of all packages of interest
    + asked, mark: other names, and versions with this text in them, that are of interest too
    """

    @staticmethod
    def default() -> Resolved:
        """Nothing."""
        return Resolved()

    def command(self, families: dict[str, tuple[str, ...]], names: str, asked: tuple[str, ...], mark: str) -> str:
        """dpkg's answer, then apt's."""
        words = [f"{family}:{' '.join(packages)}" for family, packages in families.items()]
        return script(_PACKAGES, *words, names=names, asked=" ".join(asked), mark=mark)

    def process(self, output: list[str]) -> Resolved:
        """Read the lines."""
        installed: dict[str, tuple[str, tuple[str, ...]]] = {}
        candidates: dict[str, dict[str, str]] = {}
        since: dict[str, int] = {}
        age: int | None = None
        for line in output:
            match line.split("\t"):
                case ["installed", name, version, depends, *moment]:
                    for seconds in filter(str.isdigit, moment):
                        since[name] = int(seconds)
                    words = (re.split(r"[ (:]", one.strip())[0] for one in re.split(r"[,|]", depends))
                    installed[name] = version, tuple(word for word in words if word)
                case ["age", seconds]:
                    age = int(seconds)
                case ["candidate", family, name, version]:
                    candidates.setdefault(family, {})[name] = version
        return Resolved(installed, candidates, since, age)


class Upstream(FactBase[dict[str, Any]]):
    """What registry and hub have: see ``ojai/weights/upstream.py``, which the host runs.

    + images: references
    + models: model, revision, and the model's folder in the hub's cache or nothing
    + mirrors: of Docker Hub
    + endpoint: the hub
    + environment: proxies
    + sizes: how much is to be fetched, and the line's rate; else digests of images
    + brief: of a model only the commit
    + timeout, patience: seconds for one answer, and for all
    + hidden: logins, tokens and authorities come as standard input
    """

    @staticmethod
    def default() -> dict[str, Any]:
        """No answer."""
        return {"images": {}, "models": {}}

    def command(
        self,
        images: tuple[str, ...],
        models: tuple[tuple[str, str, str], ...],
        mirrors: tuple[str, ...],
        endpoint: str | None,
        environment: Mapping[str, str],
        sizes: bool = False,
        brief: bool = False,
        timeout: int = 20,
        patience: int = 60,
        hidden: bool = True,
    ) -> str:
        """The program, in the host's own Python. Nothing depends on its answer."""
        asked = {
            **{"images": images, "models": models, "mirrors": mirrors, "environment": dict(environment)},
            **{"endpoint": endpoint or "https://huggingface.co", "sizes": sizes, "brief": brief},
            **{"timeout": timeout, "patience": patience, "hidden": hidden},
        }
        program = Path(upstream.__file__).read_text(encoding="utf-8")
        return f"{shlex.join(['python3', '-I', '-c', program, json.dumps(asked)])} || true"

    def process(self, output: list[str]) -> dict[str, Any]:
        """Read the JSON."""
        try:
            found: dict[str, Any] = json.loads("".join(output))
        except ValueError:
            return self.default()
        return found


class Records(FactBase[dict[str, list[str]]]):
    """Our records of models that were fetched: name of the record -> its lines, without the first."""

    @staticmethod
    def default() -> dict[str, list[str]]:
        """None."""
        return {}

    def command(self, state: str) -> str:
        """All of them."""
        each = '[ ! -f "$file" ] || sed "s,^,$file\t," "$file"'
        return f"cd {shlex.quote(state)} 2>/dev/null || exit 0; for file in models--*@*; do {each}; done"

    def process(self, output: list[str]) -> dict[str, list[str]]:
        """Read the lines."""
        found: dict[str, list[str]] = {}
        for line in output:
            name, tab, rest = line.partition("\t")
            if tab and not name.endswith((".part", ".new")):
                found.setdefault(name, []).append(rest)
        return found
