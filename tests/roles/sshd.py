"""A real sshd for an account of its own making: this one, in a home that the test fills (``.bashrc``, PATH).

It runs as whoever runs the tests, listens on loopback, and lets one key in.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")

needed = pytest.mark.skipif(
    not SSHD or Path(pwd.getpwuid(os.getuid()).pw_shell).name != "bash", reason="needs sshd, and bash as login shell"
)

#: A sudo that asks for nothing, for machines without one.
SUDO = """#!/bin/sh
while :; do case $1 in -u) shift 2 ;; -*) shift ;; *) break ;; esac; done
exec "$@"
"""


class Sshd:
    """``data`` is what an inventory says of it. ``home`` is that of its account; ``log`` what the daemon said."""

    def __init__(self, folder: Path, *, bashrc: str = "", settings: str = "", **environment: str) -> None:
        self.home = folder / "home"
        self.log = folder / "log"
        (self.home / "bin").mkdir(parents=True)
        (self.home / ".bashrc").write_text(bashrc)
        (self.home / "bin" / "sudo").write_text(SUDO)
        (self.home / "bin" / "sudo").chmod(0o755)
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        variables = {"HOME": self.home, "PATH": f"{self.home}/bin:{os.environ['PATH']}", **environment}
        shown = " ".join(f'"{name}={value}"' for name, value in variables.items())
        configuration = folder / "config"
        configuration.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nLogLevel VERBOSE\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
            f"SetEnv {shown}\n{settings}"
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.process = subprocess.Popen([str(SSHD), "-D", "-f", str(configuration), "-E", str(self.log)])
        self.data: dict[str, Any] = {
            "ssh_hostname": "127.0.0.1",
            "ssh_port": self.port,
            "ssh_user": pwd.getpwuid(os.getuid()).pw_name,
            "ssh_key": str(folder / "user"),
            "ssh_known_hosts_file": str(folder / "known_hosts"),
        }
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return
            time.sleep(0.05)
        raise RuntimeError(f"sshd does not listen: {self.log.read_text()}")

    def stop(self) -> None:
        """End it; connections that are open go on."""
        self.process.terminate()
        self.process.wait(10)
