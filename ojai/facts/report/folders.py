"""What is at the places of the data folders, and whether the disk that belongs there is mounted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: A mount point of /etc/fstab that is above a folder, or is it, and where nothing is mounted.
SCRIPT = r"""
for folder in %FOLDERS%; do
  if [ -L "$folder" ]; then say not_a_folder "$folder a link to $(readlink "$folder")"
  elif [ -e "$folder" ] && ! [ -d "$folder" ]; then say not_a_folder "$folder a file"; fi
  place=$(readlink -m "$folder"); while [ ! -e "$place" ]; do place=$(dirname "$place"); done
  [ -w "$place" ] ||
    say read_only "$folder $(findmnt --noheadings --output TARGET,SOURCE --target "$place" 2>/dev/null | tr -s ' ')"
done
findmnt --fstab --noheadings --raw --output TARGET 2>/dev/null | while IFS= read -r target; do
  for folder in %FOLDERS%; do
    case "$(readlink -m "$folder")/" in "${target%/}"/*)
      mountpoint -q "$target" || say not_mounted "$target"; break;; esac
  done
done
# Caches that somebody has elsewhere: what keeps them from being renamed into the first folder.
cannot() { say cannot_move "$(printf '%s\t%s' "$from" "$1")"; }
set -- %FOLDERS%; place=$(nearest "$1")
for each in %CACHES%; do
  from=${each#*=} to=$1/${each%%=*}
  [ ! -d "$from" ] || say cache_owner "$from $(stat -L -c %U "$from")"
  [ ! -L "$from" ] || continue
  if mountpoint -q "$from"; then cannot "a file system of its own"
  elif [ "$(stat -c %d "$from" 2>/dev/null)" != "$(stat -c %d "$place")" ]; then
    cannot "on another file system than $1"
  elif [ -e "$to" ] && { [ ! -d "$to" ] || [ -n "$(ls -A "$to")" ]; }; then cannot "$to is not empty"; fi
done
:
"""


@dataclass(frozen=True)
class Folders:
    """The data folders.

    + not_folders: path -> what is there instead
    + read_only: path -> mount point and device of its file system, to which root cannot write
    + not_mounted: mount points of /etc/fstab at or above them where nothing is mounted
    + cannot_move: cache that is elsewhere -> what keeps it from being renamed into the first of them
    + cache_owners: cache that is elsewhere -> the account that it belongs to
    """

    not_folders: Mapping[str, str] = field(default_factory=dict)
    not_mounted: tuple[str, ...] = ()
    read_only: Mapping[str, str] = field(default_factory=dict)
    cannot_move: Mapping[str, str] = field(default_factory=dict)
    cache_owners: Mapping[str, str] = field(default_factory=dict)


def read(every: Mapping[str, list[str]]) -> Folders:
    """The folders, from the answers by their keys."""
    return Folders(
        not_folders=dict(line.split(" ", 1) for line in every.get("not_a_folder", [])),
        not_mounted=tuple(every.get("not_mounted", [])),
        cache_owners=dict(line.rsplit(" ", 1) for line in every.get("cache_owner", [])),
        cannot_move=dict(line.split("\t", 1) for line in every.get("cannot_move", [])),
        read_only={path: disk for path, _, disk in (line.partition(" ") for line in every.get("read_only", []))},
    )
