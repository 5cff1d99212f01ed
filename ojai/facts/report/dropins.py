"""Drop-ins of systemd that change a service of ours together with other units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: systemd.unit(5): a drop-in of ``a-b.service`` may also be in ``a-.service.d`` and ``service.d``.
SCRIPT = r"""
for unit in %UNITS%; do
  stem=${unit%.service}; folders=service.d
  while case $stem in *-*) true;; *) false;; esac; do
    stem=${stem%-*}; folders="$folders $stem-.service.d"; stem=${stem%-}
  done
  for folder in $folders; do
    for file in /etc/systemd/system/"$folder"/*.conf /run/systemd/system/"$folder"/*.conf \
      /usr/local/lib/systemd/system/"$folder"/*.conf /usr/lib/systemd/system/"$folder"/*.conf; do
      [ -e "$file" ] && say shared_dropin "$unit $file"
    done
  done
done
"""


def read(every: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Unit -> the drop-ins of others that change it."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in every.get("shared_dropin", ()):
        unit, file = entry.split(" ", 1)
        found[unit] = (*found.get(unit, ()), file)
    return found
