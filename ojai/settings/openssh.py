"""How OpenSSH reaches the host that pyinfra reaches by the same data."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ojai.settings import connection_data

#: Answers ssh's prompts from files that only this account can read.
_ASKPASS = '#!/bin/sh\ncd "$(dirname "$0")" || exit 1\ncase $1 in *assphrase*) cat key ;; *) cat password ;; esac\n'


def options(data: Mapping[str, Any]) -> list[str]:
    """OpenSSH's options for what pyinfra reads from a host's data, so that both reach it by the same rules."""
    # A host that goes silent after the login ends the command, by name, after a minute.
    found = ["ServerAliveInterval=15", "ServerAliveCountMax=4", "ConnectTimeout=30"]
    if not data.get("ssh_password") and not data.get("ssh_key_password"):
        found.append("BatchMode=yes")
    default = connection_data.ssh()["ssh_strict_host_key_checking"].default
    found.append(f"StrictHostKeyChecking={data.get('ssh_strict_host_key_checking') or default}")
    if data.get("ssh_known_hosts_file"):
        found.append(f"UserKnownHostsFile={data['ssh_known_hosts_file']}")
    if data.get("ssh_key"):
        found.append("IdentitiesOnly=yes")
    if data.get("ssh_port"):
        found.append(f"Port={data['ssh_port']}")
    return found


def destination(name: str, data: Mapping[str, Any]) -> str:
    """The host called ``name``, and the account on it."""
    user = f"{data['ssh_user']}@" if data.get("ssh_user") else ""
    return f"{user}{data.get('ssh_hostname') or name}"


def secrets(data: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Variables by which ssh comes by the passwords in the data, from files in ``folder``."""
    given = {"password": data.get("ssh_password"), "key": data.get("ssh_key_password")}
    if not any(given.values()):
        return {}
    own = Path(tempfile.mkdtemp(dir=folder))
    for name, secret in {**given, "askpass": _ASKPASS}.items():
        (own / name).write_text(f"{secret or ''}\n")
    (own / "askpass").chmod(0o700)
    return {"SSH_ASKPASS": str(own / "askpass"), "SSH_ASKPASS_REQUIRE": "force"}
