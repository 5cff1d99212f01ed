"""Two hosts on which the OEM kernel is installed and the stock one runs; they differ in who may reboot them."""

import runpy
from pathlib import Path

_serving = runpy.run_path(str(Path(__file__).with_name("serving.py")))
_data = _serving["serving"][0][1]
_answers = {"/boot/vmlinuz-*": ["6.8.0-90-generic", "6.17.0-1012-oem", "6.8.0-90-generic"]}

kernels = [
    (
        f"@fake/{policy}",
        {**_data, "kernel_reboot": policy, "fake_responses": {**_data["fake_responses"], **_answers}},
    )
    for policy in ("if-required", "never")
]
