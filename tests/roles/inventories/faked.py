"""Another inventory with its hosts faked: ``FAKED`` names the file; data and groups are its own."""

import os
import runpy

from ojai.fake import fake_host


def _host(host):
    if isinstance(host, str):  # its data is said elsewhere
        return f"@fake/{host.removeprefix('@fake/')}"
    name, data = host
    return fake_host(name.removeprefix("@fake/"), data)


for _group, _hosts in runpy.run_path(os.environ["FAKED"]).items():
    if isinstance(_hosts, list) and not _group.startswith("_"):
        globals()[_group] = [_host(host) for host in _hosts]
