"""The machines of fleet.yaml, none of them there: each answers as a bare host of the guides with 64 GiB for its GPU.

For a dry run of the whole deploy with your own data. Machines of another kind want other answers: see INSTANT there.
"""

from pathlib import Path
from runpy import run_path

from ojai.settings.fleet import load

_here = Path(__file__).parent
_answers = run_path(str(_here / "provisioner" / "inventory" / "fake.py"))["INSTANT"]

fake = [(f"@fake/{_name}", {**_data, **_answers}) for _name, _data in load(_here / "fleet.yaml").hosts]
