"""What a process may do, asked of the kernel: run by the Python of a container. Prints a name and a result a line.

A result is ``ok``, or the name of the error. System calls by their numbers on x86-64.
"""

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
buffer = ctypes.create_string_buffer(4096)


def call(number: int, *arguments: object) -> None:
    """A system call; OSError with what it says."""
    if libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)) < 0:
        raise OSError(ctypes.get_errno(), "")


def file(path: str, mode: int = 0o600) -> None:
    """Make a file and remove it."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))
    Path(path).unlink()


def others_file() -> None:
    """Write a file of another account's, in a folder where that can be had."""
    folder = Path("/root/.cache/huggingface/of-another")  # made by who runs this, on the host
    os.close(os.open(folder / "file", os.O_WRONLY))


def port() -> None:
    """Listen on a port below 1024."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 81))


def traced() -> None:
    """Look into the first process, as py-spy and gdb do."""
    call(101, 16, 1, 0, 0)  # PTRACE_ATTACH
    os.waitpid(1, 0x40000000)
    call(101, 17, 1, 0, 0)  # PTRACE_DETACH


def memory_of_another() -> None:
    """Read the first process's memory, as RCCL does between GPUs."""
    start = int(Path("/proc/1/maps").read_text().split("-", 1)[0], 16)
    here = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    there = (ctypes.c_size_t * 2)(start, 8)
    call(310, 1, here, 1, there, 1, 0)


def open_device(path: str) -> None:
    """Open a device for reading and writing."""
    os.close(os.open(path, os.O_RDWR))


PROBES: dict[str, Callable[[], None]] = {
    "set_mempolicy": lambda: call(238, 0, 0, 0),
    "get_mempolicy": lambda: call(239, 0, 0, 0, 0, 0),
    "mbind": lambda: call(237, 0, 0, 0, 0, 0, 0),
    "move_pages": lambda: call(279, 0, 0, 0, 0, 0, 0),
    "io_uring_setup": lambda: call(425, 1, ctypes.create_string_buffer(120)),
    "userfaultfd": lambda: call(323, 1),
    "perf_event_open": lambda: call(298, (ctypes.c_uint32 * 32)(1, 128), 0, -1, -1, 0),
    "keyctl": lambda: call(250, 0, -3, 0),
    "ptrace": traced,
    "process_vm_readv": memory_of_another,
    "write another account's file": others_file,
    "port 81": port,
    "chown": lambda: os.chown("/dev/shm", 0, 1),
    "write /usr": lambda: file("/usr/probe"),
    "write /etc": lambda: file("/etc/probe"),
    "write /root": lambda: file("/root/probe"),
    "write /var/tmp": lambda: file("/var/tmp/probe"),
    "write /tmp": lambda: file("/tmp/probe"),
    "write /root/.cache": lambda: file("/root/.cache/probe"),
    "write /root/.config": lambda: file("/root/.config/probe"),
    "open /dev/kfd": lambda: open_device("/dev/kfd"),
    "open /dev/dri/renderD128": lambda: open_device("/dev/dri/renderD128"),
    "open /dev/dri/card0": lambda: open_device("/dev/dri/card0"),
}


def main() -> None:
    """A line for each."""
    for name, probe in PROBES.items():
        try:
            probe()
            result = "ok"
        except OSError as error:
            result = errno.errorcode.get(error.errno or 0, str(error.errno))
        print(f"{name}\t{result}")
    for name in ("Seccomp", "NoNewPrivs", "CapEff"):
        with suppress(StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            print(f"{name}\t{next(line.split()[1] for line in lines if line.startswith(f'{name}:'))}")
    shm = os.statvfs("/dev/shm")
    print(f"/dev/shm MiB\t{shm.f_frsize * shm.f_blocks >> 20}")


if __name__ == "__main__":
    sys.exit(main())
