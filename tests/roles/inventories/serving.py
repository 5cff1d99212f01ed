"""Hosts on which a whole run can be executed on air: the kernel is right, and the server answers."""

import runpy
from pathlib import Path

_fake = runpy.run_path(str(Path(__file__).resolve().parents[3] / "inventory" / "fake.py"))
_answers = {
    **_fake["ANSWERS"],
    "/boot/vmlinuz-*": ["6.17.0-1012-oem", "6.17.0-1012-oem"],
    "/v1/models": ["health=200", 'models={"data": [{"id": "google/gemma-4-E4B-it"}]} 200'],
}

serving = [("@fake/serving", {**_fake["INSTANT"], "fake_responses": _answers, "gpu_users": ["ada"]})]
