"""The lab's containers on its bridge, or those that OJAI_BENCH_HOSTS names; OJAI_BENCH_CONNECTOR=ssh: stock pyinfra."""

import os
import runpy
from pathlib import Path

_ALL = runpy.run_path(str(Path(__file__).parents[1] / "molecule/default/inventory.py"))["molecule"]
_NAMES = os.environ.get("OJAI_BENCH_HOSTS", "").split()
#: A container has no kernel of its own: a package that is there stands for it.
_OWN = {"kernel_flavour": "lab", "kernel_package": "kmod"}
if "OJAI_BENCH_CONNECTOR" in os.environ:
    _OWN["connector"] = os.environ["OJAI_BENCH_CONNECTOR"]

bench = [(_name, {**_data, **_OWN}) for _name, _data in _ALL if not _NAMES or _name in _NAMES]
