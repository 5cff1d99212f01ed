"""Another inventory with its hosts made of air: ``FAKED`` names the file; data and groups are its own.

Each host answers as a bare machine of the kind that its data asks for.
"""

import os
import runpy
from pathlib import Path

from ojai import accelerators

_ROOT = Path(__file__).resolve().parents[3]
_fake = runpy.run_path(str(_ROOT / "inventory" / "fake.py"))


def _answers(data):
    gpu = accelerators.load(data.get("accelerator", "gfx1150"))
    report = _fake["REPORT"].replace("0x1002:0x150e", ":".join(f"0x{part}" for part in gpu.pci_ids[0].split(":")))
    if data.get("memory_regime") == "gtt":
        report = report.replace("MemTotal\t65011712", "MemTotal\t131072000").replace("68719476736", "536870912")
    return {**_fake["ANSWERS"], "ojai-host-report": report.splitlines()}


def _name(name):
    return name if name.startswith("@fake/") else f"@fake/{name}"


def _host(host):
    if isinstance(host, str):  # its data is said elsewhere
        return _name(host)
    name, data = host
    return _name(name), {**data, **_fake["INSTANT"], "fake_responses": _answers(data)}


for _group, _hosts in runpy.run_path(os.environ["FAKED"]).items():
    if isinstance(_hosts, list) and not _group.startswith("_"):
        globals()[_group] = [_host(host) for host in _hosts]
