"""One lab host: its keys, its disk (an overlay of the base image) and its QEMU process."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from ojai.lab import image, packages, state
from ojai.lab.errors import LabError
from ojai.lab.shell import run, step, tail
from ojai.lab.state import HostRecord, Process

BOOT_SECONDS = 240
"""How long a boot to SSH may take; 10 to 25 s are usual on two emulated processors."""
POWERDOWN_SECONDS = 120
DISK_NEEDED = 4 << 30
"""Free space expected for one host's disk: kernel, Docker and the stand-in image are about 2 GiB."""
GATEWAY = 8443
"""Where a guest's gateway listens; a port of this machine leads to it, as one does to its sshd."""


def free_port() -> int:
    """Return a TCP port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Tell whether a TCP port can be listened on at 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def kvm_works() -> bool:
    """Tell whether KVM truly works: /dev/kvm can be there without the processor's support."""
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return bool({"vmx", "svm"} & set(words)) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def home(name: str) -> Path:
    """Return the folder of one host: disk, console log, host key."""
    return state.folder() / "hosts" / name


def make_key(path: Path, comment: str) -> None:
    """Make an ed25519 key pair without a passphrase, once."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], what="making an ssh key")


def credentials(name: str) -> str:
    """Return the systemd-tmpfiles lines that give a guest its login key, host key and name at every boot."""
    login = (state.folder() / "keys" / "login.pub").read_text().strip()
    host = home(name) / "ssh_host_ed25519_key"
    secret = base64.b64encode(host.read_bytes()).decode()
    public = host.with_name(host.name + ".pub").read_text().strip()
    hosts = "127.0.0.1 localhost\\n127.0.1.1 " + name + "\\n::1 localhost ip6-localhost ip6-loopback\\n"
    return (
        f"f+ /home/{state.USER}/.ssh/authorized_keys 0600 {state.USER} {state.USER} - {login}\\n\n"
        f"f+~ /etc/ssh/ssh_host_ed25519_key 0600 root root - {secret}\n"
        f"f+ /etc/ssh/ssh_host_ed25519_key.pub 0644 root root - {public}\\n\n"
        f"f+ /etc/hosts 0644 root root - {hosts}\n"
    )


def qemu_argv(host: HostRecord, *, kvm: bool, place: Path, sockets: Path, threads: str = "multi") -> list[str]:
    """Return QEMU's command line for a host. There is no -kernel: SeaBIOS starts GRUB from the disk."""
    accelerator = (
        ["-accel", "kvm", "-cpu", "host"]
        if kvm
        else ["-accel", f"tcg,thread={threads},tb-size=1024", "-cpu", "Nehalem"]
    )
    sku = f"carveout={host.carveout_bytes}"
    forwards = [(host.port, 22), (host.gateway, GATEWAY)]
    return [
        packages.find(packages.QEMU) or packages.QEMU,
        *("-name", f"ojai-lab-{host.name}"),
        *("-M", "q35"),
        *accelerator,
        *("-m", str(host.memory_bytes >> 20)),
        *("-smp", str(host.cpus)),
        *("-uuid", host.uuid),
        *("-smbios", f"type=1,manufacturer=MINISFORUM,product=AI X1 Pro,sku={sku},uuid={host.uuid}"),
        *("-display", "none", "-vga", "none"),
        *("-serial", f"file:{place / 'console.log'}"),
        *("-drive", f"file={place / 'disk.qcow2'},if=virtio,format=qcow2,cache=unsafe,discard=unmap"),
        *(
            "-netdev",
            ",".join(["user,id=net0", *(f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in forwards)]),
        ),
        *("-device", "virtio-net-pci,netdev=net0"),
        *("-device", "virtio-rng-pci"),
        *("-fw_cfg", f"name=opt/io.systemd.credentials/tmpfiles.extra,file={place / 'credentials'}"),
        *("-fw_cfg", f"name=opt/io.systemd.credentials/system.hostname,string={host.name}"),
        *("-qmp", f"unix:{sockets / (host.name + '.qmp')},server=on,wait=off"),
        *("-pidfile", str(place / "qemu.pid")),
        "-daemonize",
    ]


def create(name: str, base: Path, carveout: int, memory: int, *, suite: str, engine: str) -> HostRecord:
    """Make a new host's folder, host key and disk; return its record (not running)."""
    place = home(name)
    image.need_space(state.folder(), DISK_NEEDED)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700, parents=True)
    make_key(place / "ssh_host_ed25519_key", f"host key of lab host {name}")
    backing: list[str | Path] = ["-f", "qcow2", "-b", base / "disk.raw", "-F", "raw"]
    run(["qemu-img", "create", "-q", *backing, place / "disk.qcow2"], what=f"making the disk of {name}")
    image.claim(base, place / "disk.qcow2")
    return HostRecord(
        name=name,
        suite=suite,
        port=free_port(),
        uuid=str(uuid.uuid4()),
        image=base,
        engine=engine,
        carveout_bytes=carveout,
        memory_bytes=memory,
    )


def console_tail(name: str) -> str:
    """Return the last lines that the guest wrote on its console."""
    log = home(name) / "console.log"
    if not log.exists():
        return "  (the console log is empty)"
    text = log.read_bytes()[-20000:].decode(errors="replace")
    return tail("".join(c for c in text if c.isprintable() or c == "\n"), 15)


def stop_stray(name: str) -> None:
    """Stop a QEMU of this host that no record knows, left by an `up` that was killed in the middle."""
    file = home(name) / "qemu.pid"
    try:
        pid = int(file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if any(str(home(name) / "disk.qcow2").encode() in word for word in words):
            Process.of(pid).stop()
    except (OSError, ValueError, LabError):
        pass
    file.unlink(missing_ok=True)


def start(host: HostRecord) -> HostRecord:
    """Start the host's QEMU and return the record with its process; the guest boots meanwhile."""
    place, sockets = home(host.name), state.runtime_folder()
    if not (host.image / "disk.raw").exists():
        raise LabError(
            f"the disk of {host.name} was made from {host.image}, which is gone; "
            f"run `ojai lab down {host.name} --destroy` and `ojai lab up {host.name}`"
        )
    if not port_is_free(host.port):
        host = host.model_copy(update={"port": free_port()})
    if not host.gateway or not port_is_free(host.gateway):
        host = host.model_copy(update={"gateway": free_port()})
    stop_stray(host.name)
    (sockets / f"{host.name}.qmp").unlink(missing_ok=True)
    secret = place / "credentials"
    secret.unlink(missing_ok=True)
    secret.touch(mode=0o600)
    secret.write_text(credentials(host.name))
    log = place / "console.log"
    if log.exists():
        log.replace(place / "console.previous.log")
    threads = "multi" if packages.qemu_version() >= packages.QEMU_MINIMUM else "single"
    argv = qemu_argv(host, kvm=kvm_works(), place=place, sockets=sockets, threads=threads)
    run(argv, what=f"starting QEMU for {host.name}", log=place / "qemu.log")
    pid = int((place / "qemu.pid").read_text())
    return host.model_copy(update={"process": Process.of(pid)})


def write_ssh_files(records: state.Records) -> None:
    """Write known_hosts (from the keys themselves) and ssh_config for all hosts and containers."""
    top = state.folder()
    lines, blocks = [], []
    for host in records.guests.values():
        key = home(host.name) / "ssh_host_ed25519_key.pub"
        if not key.exists():  # it was being made when its `up` was killed
            continue
        public = key.read_text().split()
        place = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
        lines.append(f"{place} {public[0]} {public[1]}\n")
        blocks.append(f"Host {host.name}\n  HostName {host.address}\n  Port {host.port}\n\n")
    common = (
        "Host *\n"
        f"  User {state.USER}\n"
        f'  IdentityFile "{top / "keys" / "login"}"\n'
        "  IdentitiesOnly yes\n"
        f'  UserKnownHostsFile "{top / "known_hosts"}"\n'
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
        "  HostKeyAlgorithms ssh-ed25519\n"
        "  PasswordAuthentication no\n"
        "  ServerAliveInterval 15\n"
        "  ServerAliveCountMax 8\n"
        "  ControlMaster auto\n"
        f"  ControlPath {state.runtime_folder()}/%C\n"
        "  ControlPersist 60\n"
    )
    (top / "known_hosts").write_text("".join(lines))
    (top / "ssh_config").write_text("".join(blocks) + common)


def ssh_argv(name: str, *options: str) -> list[str]:
    """Return the start of an ssh command for a host."""
    return ["ssh", "-F", str(state.folder() / "ssh_config"), *options, name]


ALONE = tuple(
    word
    for option in ("BatchMode=yes", "ConnectTimeout=10", "ControlMaster=no", "ControlPath=none", "LogLevel=ERROR")
    for word in ("-o", option)
)
"""ssh options for a connection of its own that asks nothing."""


def answers(name: str) -> bool:
    """Tell whether the guest accepts a login now."""
    try:
        done = subprocess.run(
            [*ssh_argv(name, *ALONE), "true"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def wait_for_ssh(host: HostRecord, bound: float = BOOT_SECONDS) -> None:
    """Wait until the guest accepts a login; LabError with the console's last lines if it does not."""
    end = time.monotonic() + bound
    while True:
        if host.process is None or not host.process.alive:
            log = (home(host.name) / "qemu.log").read_text(errors="replace")
            raise LabError(
                f"QEMU of lab host {host.name} has ended. It said:\n{tail(log or '(nothing)', 5)}\n"
                f"Last console lines:\n{console_tail(host.name)}"
            )
        if answers(host.name):
            return
        if time.monotonic() > end:
            raise LabError(
                f"lab host {host.name} did not accept SSH within {bound:.0f} s. Last console lines "
                f"({home(host.name) / 'console.log'}):\n{console_tail(host.name)}"
            )
        time.sleep(0.5)


def qmp(name: str, command: str, /, timeout: float = 10, **arguments: str | bool) -> str:
    """Give QEMU one command on its monitor socket (QMP, QEMU's own protocol) and return what it answers, if words.

    Raises LabError when QEMU refuses it, OSError when there is no QEMU or no answer within `timeout` seconds.
    """
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout)
        line.connect(str(state.runtime_folder() / f"{name}.qmp"))
        stream = line.makefile("rw")
        stream.readline()
        answer: dict[str, Any] = {}
        for word, values in (("qmp_capabilities", {}), (command, arguments)):
            stream.write(json.dumps({"execute": word, "arguments": values}) + "\n")
            stream.flush()
            answer = json.loads(stream.readline())
            while "event" in answer:
                answer = json.loads(stream.readline())
    if "error" in answer:
        raise LabError(f"QEMU of {name} refuses {command}: {answer['error'].get('desc', answer['error'])}")
    said = answer.get("return")
    return said if isinstance(said, str) else ""


def monitor(name: str, command: str) -> None:
    """Give QEMU a command that only its human monitor has; raise LabError with its answer if it does not succeed."""
    said = qmp(name, "human-monitor-command", timeout=120, **{"command-line": command}).strip()
    if said:
        raise LabError(f"QEMU of {name}, `{command}`: {said}")


def set_network(name: str, up: bool) -> None:
    """Pull the network cable of a running host out (nobody is told, no connection is closed), or put it back."""
    if not up:
        close_ssh(name)
    try:
        qmp(name, "set_link", name="net0", up=up)
    except OSError as bad:
        raise LabError(f"QEMU of {name} cannot be reached: {bad}") from bad


def close_ssh(name: str) -> None:
    """End the shared SSH connection to a host, if one is open."""
    subprocess.run(ssh_argv(name, "-O", "exit"), check=False, capture_output=True)


def stop(host: HostRecord) -> HostRecord:
    """Power the guest down as its power button does; cut the power if it has not ended after two minutes."""
    close_ssh(host.name)
    process = host.process
    if process and process.alive:
        with step(f"powering {host.name} down"):
            try:
                qmp(host.name, "system_powerdown")
            except OSError:
                poweroff = [*ssh_argv(host.name, *ALONE), "sudo systemctl poweroff"]
                subprocess.run(poweroff, check=False, stdin=subprocess.DEVNULL, capture_output=True)
            end = time.monotonic() + POWERDOWN_SECONDS
            while process.alive and time.monotonic() < end:
                time.sleep(0.2)
            process.stop()
    stop_stray(host.name)
    (state.runtime_folder() / f"{host.name}.qmp").unlink(missing_ok=True)
    return host.model_copy(update={"process": None})


def power_cut(host: HostRecord) -> HostRecord:
    """Kill the host's QEMU at once, as a power failure would."""
    close_ssh(host.name)
    if host.process is None or not host.process.alive:
        raise LabError(f"lab host {host.name} is not running")
    host.process.stop(signal.SIGKILL)
    (state.runtime_folder() / f"{host.name}.qmp").unlink(missing_ok=True)
    return host.model_copy(update={"process": None})


def snapshots(name: str) -> dict[str, bool]:
    """Return a host's snapshots: label -> whether the memory of the running machine was kept with the disk."""
    disk = home(name) / "disk.qcow2"
    text = run(["qemu-img", "info", "--force-share", "--output=json", disk], what=f"reading the disk of {name}")
    return {item["name"]: item["vm-state-size"] > 0 for item in json.loads(text).get("snapshots", [])}


def snapshot_running(name: str, label: str) -> None:
    """Keep disk and memory of a running host under a label; it runs on."""
    monitor(name, f"savevm {label}")


def restore_running(name: str, label: str) -> None:
    """Put disk and memory of a running host back to what they were under a label, and its clock to the present.

    Nothing boots: what ran then runs on. The clock would have stood still meanwhile.
    """
    close_ssh(name)
    monitor(name, f"loadvm {label}")
    now = ["sudo", "date", "--set", f"@{time.time():.0f}"]
    run([*ssh_argv(name, *ALONE), shlex.join(now)], what=f"setting the clock of {name}")


def snapshot(name: str, label: str) -> None:
    """Keep the disk of a stopped host under a label (a snapshot inside the qcow2 file)."""
    if label in snapshots(name):
        run(["qemu-img", "snapshot", "-d", label, home(name) / "disk.qcow2"], what="replacing a snapshot")
    run(["qemu-img", "snapshot", "-c", label, home(name) / "disk.qcow2"], what=f"snapshot of {name}")


def restore(name: str, label: str) -> None:
    """Put the disk of a stopped host back to what it was under a label."""
    known = snapshots(name)
    if label not in known:
        raise LabError(f"lab host {name} has no snapshot {label!r} (there are: {', '.join(known) or 'none'})")
    run(["qemu-img", "snapshot", "-a", label, home(name) / "disk.qcow2"], what=f"restoring {name}")
