"""The hosts of inventory/fake.py, and one whose GPU memory cannot be read yet: together they reach every operation."""

import runpy
from pathlib import Path

from ojai.fake import fake_host

_no_driver, _data = fake_host("no-driver", {})
_answers = _data["fake_responses"]
_report = [line for line in _answers["ojai-host-report"] if not line.startswith("mem_info_")]

hosts = [
    *runpy.run_path(str(Path(__file__).resolve().parents[3] / "inventory" / "fake.py"))["fake"],
    (_no_driver, {**_data, "fake_responses": {**_answers, "ojai-host-report": _report}}),
]
