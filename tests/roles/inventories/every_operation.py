"""The hosts of inventory/fake.py, and more: GPU memory that cannot be read yet, adoption, another exposure, secrets, a
proxy, a kernel that is locked (by the lock that tests/operation_names.py writes).

Together they lead to every operation.
"""

import runpy
from pathlib import Path

from ojai.fake import fake_host

_fake = runpy.run_path(str(Path(__file__).resolve().parents[3] / "inventory" / "fake.py"))
_name, _data = fake_host("no-driver", {})
_answers = _data["fake_responses"]
_report = [line for line in _answers["ojai-host-report"] if not line.startswith("mem_info_")]
_authority = str(Path(__file__).with_name("authority.pem"))

_secret = {"command": ["echo", "a-secret"]}
hosts = [
    *_fake["fake"],
    fake_host("fenced", {"firewall_networks": ["192.0.2.0/24"]}),
    fake_host("secret", {"service_secrets": {"HF_TOKEN": _secret}}),
    fake_host("watched", {"watch": "box", "watch_secrets": {"webhook": _secret}}),
    fake_host("closed", {"exposure": "loopback"}),
    fake_host("adopted", {"adopt": True, "move_adopted_caches": True}),
    fake_host("proxied", {"http_proxy": "http://proxy.lan:3128", "ca_certificates": [_authority]}),
    fake_host("locked", {"kernel_package": "linux-generic-hwe-24.04", "kernel_flavour": "generic"}),
    (_name, {**_data, "fake_responses": {**_answers, "ojai-host-report": _report}}),
]
