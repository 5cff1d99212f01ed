"""The hosts of inventory/fake.py, and one whose GPU memory cannot be read yet: together they reach every operation."""

import runpy
from pathlib import Path

_fake = runpy.run_path(str(Path(__file__).resolve().parents[3] / "inventory" / "fake.py"))
_report = [line for line in _fake["REPORT"].splitlines() if not line.startswith("mem_info_")]
_answers = {**_fake["ANSWERS"], "ojai-host-report": _report}

hosts = [*_fake["fake"], ("@fake/no-driver", {**_fake["INSTANT"], "fake_responses": _answers})]
