"""Files that come with the package: data, profiles, templates, the checks of a host, the deploy, what ``init`` writes.

In a clone they stand where its users look for them (``profiles/``, ``templates/``, ``files/``, ``tests/host/``,
``deploy.py``, ``examples/repository/``), and ``ojai/share`` and ``ojai/deploy.py`` link to them; a wheel has copies in
their place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PACKAGE = Path(__file__).resolve().parent
_SHARE = _PACKAGE / "share"

PROFILES = _SHARE / "profiles"
TEMPLATES = _SHARE / "templates"
FILES = _SHARE / "files"
CHECKS = _SHARE / "checks"
DEPLOY = _PACKAGE / "deploy.py"
REPOSITORY = _SHARE / "repository"
SETTINGS = _SHARE / "settings.md"


def parse(text: str) -> Any:
    """YAML of our own, read by libyaml where PyYAML has it: which takes a tenth of the time."""
    return yaml.load(text, Loader=_LOADER)


class _Once(_LOADER):  # type: ignore[misc]
    """Of a key that is there twice, YAML's own loaders take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def parse_once(text: str) -> Any:
    """YAML that people merge and edit: a key that is there twice is an error."""
    return yaml.load(text, Loader=_Once)


def data(name: str) -> Any:
    """The content of ``ojai/data/NAME.yaml``."""
    return parse((_PACKAGE / "data" / f"{name}.yaml").read_text(encoding="utf-8"))


def text(name: str) -> str:
    """The content of the file ``ojai/data/NAME``."""
    return (_PACKAGE / "data" / name).read_text(encoding="utf-8")
