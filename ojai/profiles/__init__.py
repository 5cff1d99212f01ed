"""The model catalogue: profiles, the choices over them, and the command that comes of it.

- `features`: the named choices (`Features`) and the engine arguments they stand for;
- `model`: `Profile`, read from ``profiles/*.yaml``, every fact with its source;
- `command`: the `docker run` list;
- `refusals`: what cannot work, with reason and source;
- `render`: all of it together;
- `deviations`: where the command differs from the guides', and why.
"""

from ojai.profiles.codes import CODES
from ojai.profiles.command import (
    BASE_DIRECTORY,
    MOUNTS,
    Command,
    Refusal,
    RefusedError,
    directories,
    image_key,
)
from ojai.profiles.features import Features, Speculative
from ojai.profiles.model import DIRECTORY, Profile, ProfileError, effective, load, names
from ojai.profiles.refusals import findings, refusals
from ojai.profiles.render import render

__all__ = [
    "BASE_DIRECTORY",
    "CODES",
    "DIRECTORY",
    "MOUNTS",
    "Command",
    "Features",
    "Profile",
    "ProfileError",
    "Refusal",
    "RefusedError",
    "Speculative",
    "directories",
    "effective",
    "findings",
    "image_key",
    "load",
    "names",
    "refusals",
    "render",
]
