"""What to look at in the inventory when a host cannot be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: A word of the complaint of ssh or pyinfra, and what to look at. ``{x}`` is the value in the host's data.
_LIKELY = (
    ("Identity file", "ssh_key ({ssh_key}): there is no such file"),
    ("Could not resolve", "ssh_hostname ({ssh_hostname})"),
    ("IDENTIFICATION HAS CHANGED", "its host key, which changed; if that is expected: ssh-keygen -R {ssh_hostname}"),
    ("Host key verification failed", "ssh_known_hosts_file, which has no key of it; ssh_strict_host_key_checking"),
    ("Permission denied", "ssh_user ({ssh_user}), ssh_key ({ssh_key})"),
    ("Authentication", "ssh_user ({ssh_user}), ssh_key ({ssh_key})"),
    ("", "ssh_hostname ({ssh_hostname}), ssh_port ({ssh_port}); is it switched on?"),
)


def likely(name: str, data: Mapping[str, Any], complaint: str) -> str:
    """The settings of host ``name`` that ``complaint`` is probably about, with their values."""
    shown = {"ssh_hostname": name, "ssh_port": 22, "ssh_user": "yours", "ssh_key": "yours"}
    shown |= {key: data[key] for key in shown if data.get(key)}
    return next(hint for word, hint in _LIKELY if word in complaint).format(**shown)
