"""The virtual machines of `make lab`: the same deploy, with what is outside replaced by the lab's stand-ins.

Nothing here that a fleet could not say of its own mirror, registry and kernel.
"""

from pyinfra.api.exceptions import InventoryError

from ojai.lab import state
from ojai.lab.errors import LabError

PROFILE = "gemma-4-e4b"  # or gemma-4-26b-a4b: the one line that switches models

try:
    _lab = state.load()
except LabError as _error:
    raise InventoryError(str(_error)) from None

_OUTSIDE = {
    # The signed archive that stands for repo.radeon.com, with the lab's own key.
    "rocm_mirror": _lab.upstreams.rocm_url,
    "rocm_key_fingerprint": _lab.upstreams.rocm_fingerprint,
    # The registry that stands for Docker Hub.
    "docker_registry_mirrors": [_lab.upstreams.registry_mirror],
    # The hub that stands for Hugging Face's, with small files.
    "hf_endpoint": _lab.upstreams.hub_url,
    # The stand-in image is small.
    "image_bytes": "1GiB",
    "headless": True,
    "services": [{"profile": PROFILE, "start_timeout": 300}],
}

lab = [
    (
        _host.name,
        {
            "ssh_hostname": _host.address,
            "ssh_port": _host.port,
            "ssh_user": _host.user,
            "ssh_key": str(_host.key),
            "ssh_known_hosts_file": str(_host.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "gpu_users": [_host.user],
            # This machine's port that leads to the guest's gateway.
            "gateway_url": f"https://127.0.0.1:{_host.gateway}",
            # Where this machine's connections come from, as the guest sees them.
            "firewall_networks": ["10.0.2.0/24"],
            **_OUTSIDE,
            # What its suite needs: on Debian's, an ordinary kernel stands for the OEM kernel.
            **_host.inventory,
        },
    )
    for _host in _lab.hosts
    if _host.running
]
