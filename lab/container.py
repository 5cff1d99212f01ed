"""One lab container: a booted systemd guest in about a second, for what needs no kernel of its own.

systemd-nspawn boots the root file system that the virtual machine has, without its kernels. Its network is a
namespace that slirp4netns serves, so it sees what QEMU's guests see: 10.0.2.2 is this machine's loopback, where the
stand-ins listen, and nothing of this machine's own network is touched.

What a container cannot hold: a kernel, its parameters (those of the machine that runs it, and read-only here), GPU
devices, and what needs a right that this machine's root lacks.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ojai.lab import image, packages, state, vm
from ojai.lab.errors import LabError
from ojai.lab.shell import as_root, run, step, tail
from ojai.lab.state import ContainerRecord, Process
from ojai.lab.suites import Suite

BUILD = Path(__file__).with_name("container.sh")
MACHINE_ONLY = {"initramfs-tools", "linux-base", "grub2-common", "grub-pc-bin", "apparmor"}
"""Packages of the virtual machine's guest that a container has no use for."""

BOOT_SECONDS = 60
"""How long a boot to SSH may take; 2 to 4 s are usual."""
START_SECONDS = 10
HALT_SECONDS = 30
DISK_NEEDED = 2 << 30
"""Free space expected for one container: 0.5 GiB of root file system, and what a deploy installs."""

OWN = ("upper", "work")
"""Folders of a container that shares its files: what is its own, and what the kernel needs for that."""

NAMESERVER = "10.0.2.3"
"""slirp's own, which asks this machine's."""
NSPAWN = "systemd-nspawn"
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
#: inotify instances of a booted container (5 with trixie's systemd, more once Docker runs), and all others of the user.
INOTIFY_EACH, INOTIFY_OTHERS = 10, 100
SLIRP = "slirp4netns"


CGROUP_TOPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
"""Where cgroup 2 is, and on older machines the hierarchy that systemd names its own."""
OWN_CGROUP = (
    f"for top in {' '.join(CGROUP_TOPS)}; do "
    'if [ -e "$top/cgroup.procs" ]; then mkdir -p "$top/$0"; echo $$ > "$top/$0/cgroup.procs"; fi; '
    'done; exec "$@"'
)
"""Shell program: move into a cgroup named by the first argument, then run the rest."""


def _systemd_runs() -> bool:
    return Path("/run/systemd/system").is_dir()


def contained(suite: Suite) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Packages that are installed in a container of a suite, and those that are downloaded for it."""
    without = {*MACHINE_ONLY, suite.kernel}
    return (
        tuple(name for name in suite.packages if name not in without),
        tuple(name for name in suite.preseed if name not in without),
    )


def base(suite: Suite, engine: str = image.ENGINES[0]) -> Path:
    """Return the root file system of every container of a kind as a tar file, building it if it is not cached."""
    include, preseed = contained(suite)
    kind = f"container-{suite.name}-{engine}-"
    made_from = [image.GUEST / "root", image.GUEST / "common.sh", BUILD, Path(image.__file__)]
    name = kind + image.digest_of(made_from, repr(suite), *include, *preseed)
    cache = image.cache_root()
    file = cache / name / "root.tar"
    with image.locked(cache, name):
        if file.exists():
            return file
        image.need_space(cache, image.FREE_BYTES)
        what = f"building the containers' root file system from {suite.name}"
        with step(f"{what} (once; cached)"), image.fresh(cache, name) as work:
            hook = f'"{BUILD}" "$1" "{image.GUEST}"'
            log = cache / f"{name}.log"
            log.unlink(missing_ok=True)
            image.build(
                image.mmdebstrap_argv(hook, "tar", str(work / "root.tar"), include, suite),
                {**image.settings(suite, engine, preseed), "LAB_READY_PACKAGES": ""},
                what=what,
                log=log,
            )
        for old in cache.glob(f"{kind}*"):
            # Nothing is made from an older one any more: a container is a copy.
            if not old.name.startswith(name):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
    return file


def tree(name: str) -> Path:
    """Return the folder that is a container's root file system."""
    return vm.home(name) / "root"


def _machine(name: str) -> str:
    """Return a name for the container that no other lab's has, since nspawn keeps them apart by it."""
    return f"ojai-{hashlib.sha256(str(vm.home(name)).encode()).hexdigest()[:8]}-{name}"


def _socket(name: str) -> Path:
    return state.runtime_folder() / f"{name}.slirp"


def _found(program: str, word: str) -> list[Process]:
    """Return the processes of a program with just this word among its arguments."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            if Path(os.fsdecode(words[0])).name == program and word.encode() in words:
                found.append(Process.of(int(place.name)))
        except (OSError, LabError):
            continue  # it has ended meanwhile
    return found


def _inside(name: str) -> list[str]:
    """Return the numbers of the processes in a container's network namespace: its init, and all that it has started."""
    return run(as_root(["ip", "netns", "pids", _machine(name)]), what=f"looking into the network of {name}").split()


def _cgroups_removed(name: str) -> bool:
    groups = [path for top in CGROUP_TOPS if (path := Path(top, _machine(name))).exists()]
    if groups:
        find = ["find", *map(str, groups), "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]
        subprocess.run(as_root(find), check=False, capture_output=True)
    return not any(group.exists() for group in groups)


def _stop(process: Process, timeout_seconds: float) -> None:
    """End one process, which is root's: TERM, and KILL when it has not ended after `patience` seconds."""
    for signal in ("TERM", "KILL"):
        if not process.alive:
            return
        try:
            run(as_root(["kill", "-s", signal, str(process.pid)]), what=f"ending process {process.pid}")
        except LabError:
            if process.alive:
                raise
        _wait(lambda: not process.alive, timeout_seconds)


def _wait(ready: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _nspawn_word(name: str) -> str:
    return f"--directory={tree(name)}"


def _slirp_word(name: str) -> str:
    return f"--api-socket={_socket(name)}"


def nspawn_argv(name: str) -> list[str]:
    """Return systemd-nspawn's command line for a container, with the environment that it wants."""
    # Where systemd runs this machine it makes a scope for the container. Where it does not, each container is started
    # in a cgroup of its own: two that share one kill each other's services.
    alone = [] if _systemd_runs() else ["sh", "-c", OWN_CGROUP, _machine(name)]
    keep = [] if _systemd_runs() else ["--keep-unit"]
    return [
        *alone,
        "env",
        "UNIFIED_CGROUP_HIERARCHY=1",
        # Docker sets net.* of its own network namespace. All other parameters are this machine's: read-only.
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network",
        packages.find(NSPAWN) or NSPAWN,
        "--quiet",
        "--boot",
        _nspawn_word(name),
        f"--machine={_machine(name)}",
        f"--hostname={name}",
        "--register=no",
        *keep,
        f"--network-namespace-path=/run/netns/{_machine(name)}",
        "--resolv-conf=off",
        # Docker: what runc asks for; it runs without them only on some machines.
        "--capability=all",
        "--system-call-filter=add_key keyctl bpf",
        f"--load-credential=tmpfiles.extra:{vm.home(name) / 'credentials'}",
    ]


def slirp_argv(name: str) -> list[str]:
    """Return slirp4netns's command line for a container: 10.0.2.100 in its namespace, 10.0.2.2 is this machine."""
    return [
        packages.find(SLIRP) or SLIRP,
        "--configure",
        "--mtu=65520",
        "--netns-type=path",
        _slirp_word(name),
        f"/run/netns/{_machine(name)}",
        "tap0",
    ]


def _launch(argv: Sequence[str], log: Path, what: str, program: str, word: str) -> Process:
    """Start a program as root in the background and return its process (not sudo's)."""
    with log.open("wb") as sink:
        child = subprocess.Popen(
            as_root(argv), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True, cwd="/"
        )
    if not _wait(lambda: _found(program, word) or child.poll() is not None, START_SECONDS) or child.poll() is not None:
        raise LabError(f"{what} did not start:\n{tail(log.read_text(errors='replace') or '(it said nothing)', 10)}")
    return _found(program, word)[0]


def forward(name: str, port: int, to: int) -> None:
    """Let slirp4netns pass a port of 127.0.0.1 on to one of the container's."""
    request = {"proto": "tcp", "host_addr": "127.0.0.1", "host_port": port, "guest_port": to}
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(START_SECONDS)
        line.connect(str(_socket(name)))
        line.sendall(json.dumps({"execute": "add_hostfwd", "arguments": request}).encode())
        line.shutdown(socket.SHUT_WR)
        answer = line.recv(4096)
    if b'"error"' in answer or not answer:
        raise LabError(f"slirp4netns does not forward port {port} of 127.0.0.1: {answer.decode(errors='replace')}")


def ready(name: str) -> bool:
    """Tell whether a container's root file system is all there."""
    return (vm.home(name) / "ready").exists()


def create(name: str, base: Path, shared: bool = False) -> None:
    """Make a new container's folder, host key and root file system.

    ``shared``: of its own it has only what it changes, over files that all such containers of the lab read.
    """
    remove(name)
    place = vm.home(name)
    image.need_space(state.folder(), DISK_NEEDED)
    place.mkdir(mode=0o700, parents=True)
    vm.make_key(place / "ssh_host_ed25519_key", f"host key of lab container {name}")
    tree(name).mkdir(mode=0o755)
    if shared:
        (place / "lower").symlink_to(_shared_tree(base))
        for part in OWN:
            (place / part).mkdir(mode=0o755)
    else:
        _unpack(base, tree(name))
    (place / "ready").touch()


def _unpack(base: Path, into: Path) -> None:
    unpack = ["tar", "--extract", "--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*"]
    run(as_root([*unpack, f"--file={base}", f"--directory={into}"]), what=f"unpacking {base} into {into}")
    resolver = str(into / "etc" / "resolv.conf")
    run(as_root(["rm", "-f", resolver]), what="removing the builder's resolv.conf")
    run(as_root(["tee", resolver]), what=f"writing {resolver}", stdin=f"nameserver {NAMESERVER}\n")


def shared_trees() -> Path:
    """Return the folder of the files that containers share."""
    return state.folder() / "trees"


def _shared_tree(base: Path) -> Path:
    """The root file system of every container of a kind that is unpacked once; nothing is ever written to it."""
    place = shared_trees() / base.parent.name
    if not place.exists():
        fresh = place.with_suffix(".new")
        _remove_trees(fresh)
        fresh.mkdir(mode=0o755, parents=True)
        _unpack(base, fresh)
        fresh.rename(place)
    return place


def _remove_trees(*places: Path) -> None:
    there = [str(place) for place in places if place.exists()]
    if there:
        run(as_root(["rm", "-rf", "--one-file-system", *there]), what=f"removing {' '.join(there)}")


def remove_shared_trees() -> None:
    """Remove what containers share; none may run."""
    _remove_trees(shared_trees())


def _mount(name: str) -> None:
    """Put a shared tree, with what the container has of its own over it, in its place."""
    if (vm.home(name) / "lower").exists() and not tree(name).is_mount():
        options = "lowerdir=lower,upperdir=upper,workdir=work"  # short, whatever the lab's folder is called
        mount = ["env", "-C", str(vm.home(name)), "mount", "-t", "overlay", "overlay", "-o", options, "root"]
        run(as_root(mount), what=f"mounting the files of {name}")


def remove(name: str) -> None:
    """Remove a container's folder, with its root file system; what still runs of it is stopped first."""
    stop(ContainerRecord(name=name, port=0))
    _remove_trees(tree(name), *(vm.home(name) / part for part in OWN))
    shutil.rmtree(vm.home(name), ignore_errors=True)


def _allow_inotify(containers: int) -> None:
    """Raise the kernel's limit of inotify instances a user, until the next boot, where so many systemds reach it."""
    needed = INOTIFY_OTHERS + INOTIFY_EACH * containers
    if int(INOTIFY_LIMIT.read_text()) < needed:
        raising = ["sh", "-c", f"echo {needed} >{INOTIFY_LIMIT}"]
        run(as_root(raising), what=f"raising {INOTIFY_LIMIT} to {needed} for {containers} containers")


def start(container: ContainerRecord) -> ContainerRecord:
    """Start a container and its network; return the record with both processes. It boots meanwhile."""
    name = container.name
    container = stop(container)  # also what an `up` left that was killed in the middle
    if not container.on_bridge:
        if not vm.port_is_free(container.port):
            container = container.model_copy(update={"port": vm.free_port()})
        if not container.gateway or not vm.port_is_free(container.gateway):
            container = container.model_copy(update={"gateway": vm.free_port()})
    secret = vm.home(name) / "credentials"
    secret.unlink(missing_ok=True)
    secret.touch(mode=0o600)
    secret.write_text(vm.credentials(name))
    try:
        _allow_inotify(len(state.read().containers) + 1)
        _mount(name)
        run(as_root(["ip", "netns", "add", _machine(name)]), what=f"making the network namespace of {name}")
        network = _launch(slirp_argv(name), vm.home(name) / "network.log", SLIRP, SLIRP, _slirp_word(name))
        if not _wait(_socket(name).exists, START_SECONDS):
            log = (vm.home(name) / "network.log").read_text(errors="replace")
            raise LabError(f"slirp4netns made no socket {_socket(name)}:\n{tail(log, 10)}")
        if os.geteuid() != 0:
            run(as_root(["chmod", "a+rw", str(_socket(name))]), what="opening slirp4netns's socket")
        if not container.on_bridge:
            forward(name, container.port, 22)
            forward(name, container.gateway, vm.GATEWAY)
        process = _launch(nspawn_argv(name), vm.home(name) / "console.log", NSPAWN, NSPAWN, _nspawn_word(name))
    except BaseException:
        stop(container)
        raise
    return container.model_copy(update={"process": process, "network": network})


def wait_for_ssh(container: ContainerRecord, bound: float = BOOT_SECONDS) -> None:
    """Wait until the container accepts a login; LabError with the console's last lines if it does not."""
    name = container.name

    def decided() -> bool:
        return vm.answers(name) or not (container.process and container.process.alive)

    in_time = _wait(decided, bound)
    if not in_time or not vm.answers(name):
        trouble = "has ended" if in_time else f"did not accept SSH within {bound:.0f} s"
        raise LabError(f"lab container {name} {trouble}. Last console lines:\n{vm.console_tail(name)}")


def stop(container: ContainerRecord) -> ContainerRecord:
    """Halt a container as its power button does, and take its network away. Found by its folder's name."""
    name = container.name
    vm.close_ssh(name)
    for process in _found(NSPAWN, _nspawn_word(name)):
        _stop(process, HALT_SECONDS)
    for process in _found(SLIRP, _slirp_word(name)):
        _stop(process, START_SECONDS)
    if Path("/run/netns", _machine(name)).exists():
        # Where nspawn itself was killed, its container runs on.
        if left := _inside(name):
            subprocess.run(as_root(["kill", "-s", "KILL", *left]), check=False, capture_output=True)
        if not _wait(lambda: not _inside(name), HALT_SECONDS):
            raise LabError(f"processes of lab container {name} do not end: {', '.join(_inside(name))}")
        run(as_root(["ip", "netns", "delete", _machine(name)]), what=f"removing the network namespace of {name}")
    if not _wait(lambda: _cgroups_removed(name), HALT_SECONDS):
        raise LabError(f"the cgroup {_machine(name)} of lab container {name} cannot be removed: something runs in it")
    export = Path("/run/systemd/nspawn/unix-export", _machine(name))
    if export.exists():
        # Left by a killed nspawn (seen with systemd 257, not with 252); the next one would refuse to start.
        subprocess.run(as_root(["umount", "--lazy", str(export)]), check=False, capture_output=True)
        run(as_root(["rmdir", str(export)]), what=f"removing {export}")
    _socket(name).unlink(missing_ok=True)
    if tree(name).is_mount():
        run(as_root(["umount", str(tree(name))]), what=f"unmounting the files of {name}")
    return container.model_copy(update={"process": None, "network": None})
