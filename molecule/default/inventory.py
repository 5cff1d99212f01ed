"""The container of this scenario, with what is outside replaced by the lab's stand-ins."""

from pyinfra.api.exceptions import InventoryError

from ojai.lab import state

_lab = state.view(state.read())
if _lab is None:
    raise InventoryError(f"{state.folder()}: no container there. Molecule makes it: `make molecule`.")

molecule = [
    (
        _guest.name,
        {
            "ssh_hostname": _guest.address,
            "ssh_port": _guest.port,
            "ssh_user": _guest.user,
            "ssh_key": str(_guest.key),
            "ssh_known_hosts_file": str(_guest.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "gpu_users": [_guest.user],
            "gateway_url": f"https://127.0.0.1:{_guest.gateway}",
            # What stands for repo.radeon.com (a signed archive), for Docker Hub and for Hugging Face's hub.
            "rocm_mirror": _lab.upstreams.rocm_url,
            "rocm_key_fingerprint": _lab.upstreams.rocm_fingerprint,
            "docker_registry_mirrors": [_lab.upstreams.registry_mirror],
            "hf_endpoint": _lab.upstreams.hub_url,
            # What its suite needs, such as Docker's client as a package of its own.
            **_guest.inventory,
            "headless": True,
            # A service needs the GPU: molecule/vm has one.
            "services": [],
        },
    )
    for _guest in _lab.containers
    if _guest.running
]
