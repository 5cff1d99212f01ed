"""The lab's container as a host with a service; what is different for it is in ``OJAI_CONTAINED``, as JSON."""

import json
import os
import runpy

_HOSTS = runpy.run_path("molecule/default/inventory.py")["molecule"]
_SERVICES = [{"profile": "gemma-4-e4b", "start_timeout": 120}]
#: A container has no kernel of its own: a package that is there stands for it.
_KERNEL = {"kernel_flavour": "lab", "kernel_package": "kmod"}
# As the container sees it, this machine is 10.0.2.2.
_NEAR = {"firewall_networks": ["10.0.2.0/24"]}
_OWN = {"gpu_users": ["ada"], "image_bytes": "1GiB", "services": _SERVICES, **_KERNEL, **_NEAR}

lab = [(_name, {**_data, **_OWN, **json.loads(os.environ.get("OJAI_CONTAINED", "{}"))}) for _name, _data in _HOSTS]
