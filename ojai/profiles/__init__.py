"""The model catalogue: profiles, and the choices over them.

- `features`: the named choices (`Features`);
- `model`: `Profile`, read from ``profiles/*.yaml``, every fact with its source;
- `codes`: the code of every refusal;
- `deviations`: where the command differs from the guides', and why.
"""

from ojai.profiles.codes import CODES
from ojai.profiles.features import Features, Speculative
from ojai.profiles.model import EngineName, Profile, ProfileError, effective, load, names, served_by

__all__ = [
    "CODES",
    "EngineName",
    "Features",
    "Profile",
    "ProfileError",
    "Speculative",
    "effective",
    "load",
    "names",
    "served_by",
]
