"""The lab's container as a host that somebody set up by hand; what is different for it is in ``OJAI_ADOPTION``."""

import json
import os
import runpy

_HOSTS = runpy.run_path("molecule/default/inventory.py")["molecule"]
_SERVICES = [{"profile": "gemma-4-e4b", "start_timeout": 120}]
_OWN = {"gpu_users": ["ada"], "image_bytes": "1GiB", "services": _SERVICES, "kernel_flavour": "lab"}

lab = [(_name, {**_data, **_OWN, **json.loads(os.environ.get("OJAI_ADOPTION", "{}"))}) for _name, _data in _HOSTS]
