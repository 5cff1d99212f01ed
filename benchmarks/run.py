"""`make bench`: run what is missing of the results, for at most an hour, and say what is left.

The hosts are containers of a lab of its own, on the same machine: what they do is part of the wall clock of all tools.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import measure, plan
from benchmarks.plan import Case, Results
from benchmarks.state import differences, taken
from ojai.lab import bridge, container, state, vm
from ojai.lab.shell import as_root
from tests.lab.cases import DRIFT, named

ROOT = Path(__file__).parents[1]
HERE = ROOT / "benchmarks"
WORK = ROOT / ".bench"
LOADER = "etc/ld.so.conf.d/ojai-rocm.conf"
COUNT = "etc/ssh/sshd_config.d/00-count.conf"
#: A new host. The lab masks the unit, since a container's parameters are this machine's; preflight wants it. Ansible's
#: apt module wants python3-apt, which Ubuntu Server has and the guest lacks; under Mitogen it cannot install it.
NEW = (
    "systemctl unmask systemd-sysctl.service && DEBIAN_FRONTEND=noninteractive apt-get -q -y install python3-apt && "
    f"echo LogLevel VERBOSE >/{COUNT} && systemctl reload ssh"
)
#: A core that computes for this many times as long as it computes is somebody else's too.
BUSY = 1.05
DRIFTS = (
    "a sleep target is unmasked",
    "the graphical target is the default again",
    "the user is taken out of the group render",
    "the keyring is truncated",
    "the source is edited to another release of Ubuntu",
    "the pin is deleted",
    "rocminfo is removed",
    "the loader's drop-in is edited",
    "daemon.json is deleted",
    "a cache folder that no container has is deleted",
)


class BenchError(Exception):
    """A run did not do what it is measured for."""


def say(text: str) -> None:
    """Print one line of progress, with the time."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


def changes(tool: str, output: str) -> int:
    """How many things a run says that it changed, over all hosts."""
    pattern = r"\bchanged=(\d+)" if tool in ("ansible", "mitogen") else r"\bok  (\d+) of \d+ operations changed"
    return sum(map(int, re.findall(pattern, output)))


class Bench:
    """The lab, and how each tool is called."""

    def __init__(self, work: Path = WORK) -> None:
        self.work, self.cache = work, work / "cache"
        self.env = {
            **os.environ,
            "OJAI_LAB_DIR": str(work / "lab"),
            "OJAI_LAB_SUITE": os.environ.get("OJAI_LAB_SUITE", "trixie"),
            "XDG_CACHE_HOME": str(self.cache),
            "NO_COLOR": "1",
            "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
        }
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)  # else ojai, not installed by pip, is compiled anew by each run
        os.environ |= {name: self.env[name] for name in ("OJAI_LAB_DIR", "OJAI_LAB_SUITE")}
        self.rtt = -1

    def program(self, environment: str, name: str) -> Path:
        """A program of one of the environments."""
        return self.work / environment / "bin" / name

    def lab(self, *words: str) -> None:
        """``ojai lab`` with these words."""
        argv = [self.program("ojai", "python"), "-m", "ojai", "lab", *words]
        # In this process's own environment: its images are where every lab has them.
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"ojai lab {shlex.join(words)}: {done.stderr}")

    def root(self, name: str, command: str, *, check: bool = True) -> str:
        """What a command prints as root on a host."""
        argv = [*vm.ssh_argv(name, *vm.ALONE), f"sudo sh -c {shlex.quote(command)}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise BenchError(f"{name}: {command[:200]}: {done.stderr}")
        return done.stdout

    def write_inventory(self) -> None:
        """The same hosts and values as ojai's inventory, for Ansible; and AMD's key as a keyring."""
        lab = state.view(state.read())
        if lab is None:
            raise BenchError("there is no lab")
        keyring = self.work / "ojai-rocm.gpg"
        url = f"{lab.upstreams.rocm_url}/rocm/rocm.gpg.key".replace(state.GUEST_VIEW, "127.0.0.1")
        key = subprocess.run(["curl", "-sf", url], capture_output=True, check=True).stdout
        keyring.write_bytes(subprocess.run(["gpg", "--dearmor"], input=key, capture_output=True, check=True).stdout)
        options = f"-o UserKnownHostsFile={self.work / 'lab/known_hosts'} -o GlobalKnownHostsFile=/dev/null"
        variables = {
            "ansible_user": state.USER,
            "ansible_ssh_private_key_file": str(self.work / "lab/keys/login"),
            "ansible_ssh_common_args": f"{options} -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes",
            "rocm_mirror": lab.upstreams.rocm_url,
            "rocm_keyring_file": str(keyring),
            "registry_mirror": lab.upstreams.registry_mirror,
            "gpu_users": [state.USER],
            "docker_packages": lab.containers[0].inventory.get("docker_packages", ["docker.io"]),
        }
        hosts = {one.name: {"ansible_host": one.address, "ansible_port": one.port} for one in lab.containers}
        self.variables = variables
        (self.work / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))

    def call(self, tool: str, names: list[str]) -> tuple[list[str | Path], dict[str, str]]:
        """The command line of a tool on these hosts, and what its environment has beside the common one."""
        if tool in ("ansible", "mitogen"):
            own = {"ANSIBLE_FORKS": str(len(names))}
            if tool == "mitogen":
                plugins = next((self.work / "mitogen").glob("lib/python*/site-packages/ansible_mitogen/plugins"))
                own |= {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(plugins / "strategy")}
            argv: list[str | Path] = [self.program(tool, "ansible-playbook"), "-i", self.work / "inventory.json"]
            return [*argv, "--limit", ",".join(names), HERE / "playbook.yml"], own
        if tool == "shell":
            assert len(names) == 1
            key = base64.b64encode(Path(self.variables["rocm_keyring_file"]).read_bytes()).decode()
            packages = " ".join(self.variables["docker_packages"])
            words = [self.variables["rocm_mirror"], self.variables["registry_mirror"], key, packages, state.USER]
            remote = f"sudo sh -s {shlex.join(words)}"
            script = shlex.quote(str(HERE / "first-run.sh"))
            return ["sh", "-c", f"{shlex.join([*vm.ssh_argv(names[0], *vm.ALONE), remote])} <{script}"], {}
        own = {"OJAI_BENCH_HOSTS": " ".join(names)}
        if tool == "stock":
            own["OJAI_BENCH_CONNECTOR"] = "ssh"
        argv = [self.program("ojai", "python"), "-m", "pyinfra", "-y", HERE / "inventory.py", HERE / "deploy.py"]
        return argv, own

    def run(self, tool: str, names: list[str], looks: bool = False, **env: str) -> measure.Run:
        """One run of a tool on these hosts; BenchError where it fails."""
        argv, own = self.call(tool, names)
        folder = HERE / "stock" if tool == "stock" else ROOT  # whose config.py has nothing of ojai's
        done = measure.run(argv, {**self.env, **own, **env}, folder, bridge.near(), looks)
        if done.status:
            raise BenchError(f"{tool} on {len(names)} hosts: status {done.status}:\n{done.output[-4000:]}")
        return done

    def trees(self, names: Iterable[str]) -> list[Path]:
        """The root file systems of these hosts, as this machine sees them."""
        return [container.tree(name) for name in names]

    def commands(self, names: Iterable[str]) -> int:
        """What sshd has been asked to run on these hosts, by its log."""
        total = 0
        for tree in self.trees(names):
            argv = ["journalctl", "-D", str(tree / "var/log/journal"), "-o", "cat", "-g", "^Starting session"]
            done = subprocess.run(as_root([*argv, "-q"]), capture_output=True, text=True, check=False)
            total += done.stdout.count("\n")
        return total

    def damage(self, names: Iterable[str]) -> None:
        """One file drifts on each of these hosts: the loader's drop-in."""
        files = [str(tree / LOADER) for tree in self.trees(names)]
        subprocess.run(as_root(["sed", "-i", "s,/opt/rocm/,/opt/other/,", *files]), check=True)

    def damaged(self, names: Iterable[str]) -> bool:
        """Whether one of them still has it."""
        return any("/opt/other/" in (tree / LOADER).read_text() for tree in self.trees(names))

    def destroy(self, names: Iterable[str]) -> None:
        """Remove those of these hosts that there are."""
        there = [name for name in names if name in state.read().containers]
        if there:
            self.lab("down", *there, "--destroy")

    def hosts(self, name: str, count: int, rtt: int = 0) -> list[str]:
        """Have that many hosts at that distance; the sshd of a new one logs each command."""
        self.lab("container", name, "--hosts", str(count), "--rtt", f"{rtt}ms")
        self.rtt = rtt
        names = [f"{name}-{number}" for number in range(1, count + 1)]
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(
                    lambda one: self.root(one, NEW), [n for n in names if not (container.tree(n) / COUNT).exists()]
                )
            )
        self.write_inventory()
        return names


def sample(bench: Bench, case: Case, looks: bool) -> dict[str, Any]:
    """Run a case once. BenchError where it did not do its work: change what drifted, or nothing."""
    names = [f"fleet-{number}" for number in range(1, case.hosts + 1)]
    if case.what in ("converged", "drifted"):
        if case.what == "drifted":
            bench.damage(names)
        before = bench.commands(names) if looks else 0
        done = bench.run(case.tool, names, looks)
        changed = changes(case.tool, done.output)
        failed = changed > 0 if case.what == "converged" else changed == 0 or bench.damaged(names)
        if failed:
            raise BenchError(f"{case.key}: {changed} changes:\n{done.output[-3000:]}")
        found = kept(done)
        if looks:
            found["commands"] = bench.commands(names) - before
        return found
    if case.what == "first":
        bench.destroy(["first-1"])
        (name,) = bench.hosts("first", 1)
        with tempfile.TemporaryDirectory() as empty:
            return kept(bench.run(case.tool, [name], XDG_CACHE_HOME=empty))
    python = bench.program("ojai", "python")
    argv: dict[str, list[str | Path]] = {
        "help": [bench.program("ojai", "ojai"), "--help"],
        "plan": [bench.program("ojai", "ojai"), "plan", HERE / "faked.py"],
        "dry": [python, "-m", "pyinfra", "--dry", HERE / "faked.py", ROOT / "deploy.py"],
        "python": [python, "-c", "pass"],
        "ssh cold": [*vm.ssh_argv(names[0], *vm.ALONE), "true"],
        "ssh warm": [*vm.ssh_argv(names[0]), "true"],
    }
    if case.what == "ssh warm":
        subprocess.run([str(word) for word in argv[case.what]], check=True, capture_output=True)
    done = measure.run(argv[case.what], {**bench.env, "OJAI_BENCH_FAKED": str(case.hosts)}, ROOT, None, looks)
    if done.status:
        raise BenchError(f"{case.key}: status {done.status}: {done.output[-2000:]}")
    return kept(done)


def kept(done: measure.Run) -> dict[str, Any]:
    """What is kept of a run; of one that was looked at, not its times."""
    if done.memory is not None:
        return {"memory": done.memory, "bytes": done.sent}
    return {"wall": round(done.wall, 4), "cpu": round(done.cpu, 3), "bytes": done.sent}


def check(bench: Bench, results: Results) -> None:
    """Each tool on a new host of its own: the same state as ojai leaves, and each of the ten drifts undone."""
    tools = ("ojai", "ansible", "mitogen")
    if all(tool in results.checks for tool in tools):
        return
    say("each tool's state, and ten drifts …")
    hosts = {tool: f"check-{number}" for number, tool in enumerate(tools, 1)}
    bench.destroy(hosts.values())
    bench.hosts("check", len(tools))
    states = {}
    for tool, name in hosts.items():
        bench.run(tool, [name])
        again = bench.run(tool, [name])
        if changes(tool, again.output):
            raise BenchError(f"{tool}: the second run changes something:\n{again.output[-3000:]}")
        states[tool] = taken(container.tree(name))
    for tool, name in hosts.items():
        undone = []
        for drift in DRIFTS:
            bench.root(name, named(DRIFT, drift).inject)
            broken = taken(container.tree(name)) != states[tool]
            bench.run(tool, [name])
            left = differences(states[tool], taken(container.tree(name)))
            if broken and not left:
                undone.append(drift)
            else:
                say(f"{tool}: {drift}: {left[:5] if broken else 'nothing was broken'}")
        found = differences(states["ojai"], states[tool])
        results.checks[tool] = {"undone": undone, "drifts": len(DRIFTS), "differences": found}
        results.save()
        say(f"{tool}: {len(undone)} of {len(DRIFTS)} drifts undone, {len(found)} differences from ojai's state")
    bench.destroy(hosts.values())


def made_by(bench: Bench, fleet: int) -> dict[str, Any]:
    """The commit, the machine and the versions that results belong to."""

    def said(*argv: str | Path) -> str:
        done = subprocess.run([str(word) for word in argv], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    versions = {}
    for environment, wanted in (("ojai", ("pyinfra", "paramiko")), ("ansible", ("ansible-core",)),
                                ("mitogen", ("ansible-core", "mitogen"))):  # fmt: skip
        ask = "import sys, importlib.metadata as m; print(sys.version.split()[0], *map(m.version, sys.argv[1:]))"
        python, *found = said(bench.program(environment, "python"), "-c", ask, *wanted).split()
        versions[environment] = {"python": python, **dict(zip(wanted, found, strict=True))}
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "commit": said("git", "log", "-1", "--format=%h", "--abbrev=12", "--", *MEASURED),
        "clean": not said("git", "status", "--porcelain", "--", *MEASURED),
        "machine": {
            "cores": os.cpu_count(),
            "processor": model[1] if model else platform.machine(),
            "memory_gib": round(int(memory[1]) / (1 << 20)) if memory else None,
            "kernel": platform.release(),
        },
        "versions": versions,
        "suite": bench.env["OJAI_LAB_SUITE"],
        "fleet": fleet,
    }


#: What the figures depend on: the last commit that changed it counts, and what is not committed is marked.
MEASURED = ("ojai", "roles", "profiles", "templates", "deploy.py", "config.py", "lab", "benchmarks", "requirements.txt")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench")
    parser.add_argument("--minutes", type=float, default=60, help="stop after this long; the next run goes on")
    parser.add_argument("--smoke", action="store_true", help="two hosts, one sample a case, results that nobody keeps")
    parser.add_argument("--again", action="store_true", help="a second run, to see whether the ratios are the same")
    asked = parser.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    fleet, times = (3, 1) if asked.smoke else (plan.FLEET, plan.TIMES)
    if not asked.smoke and (share := measure.crowding()) > BUSY:
        print(
            f"bench: found a second of computing to take {share:.2f} s; expected an idle machine (below {BUSY}): "
            "figures measured beside other work are worth nothing. What to do: wait, or try it with --smoke."
        )
        return 1
    bench = Bench()
    bench.cache.mkdir(parents=True, exist_ok=True)
    file = WORK / "smoke.json" if asked.smoke else plan.AGAIN if asked.again else plan.RESULTS
    results = Results(file, made_by(bench, fleet))
    took: dict[str, float] = {}
    planned = plan.cases(fleet)
    left = -1
    try:
        say(f"{fleet} hosts …")
        names = bench.hosts("fleet", fleet)
        check(bench, results)
        say("the first deploy of all …")
        for tool in ("ojai", "ojai", *plan.PEERS):  # each has its caches then, and finds nothing to do
            bench.run(tool, names)
        for case, looks in plan.rounds(results, planned, times):
            if time.monotonic() + took.get(case.key, 0) > end:
                break
            if case.rtt != bench.rtt:
                bench.hosts("fleet", fleet, case.rtt)
            began = time.monotonic()
            found = sample(bench, case, looks)
            took[case.key] = time.monotonic() - began
            results.add(case, found)
            say(f"{case.key}: {found}")
        left = sum(len(results.missing(case, times)) for case in planned)
        say(f"{left} samples are missing: run it again" if left else "all samples are there")
    finally:
        bench.lab("down", *["--destroy"] * (left == 0 or asked.smoke))  # else the next run boots them as they are
    return 0


if __name__ == "__main__":
    sys.exit(main())
