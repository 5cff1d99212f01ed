"""Runs on the host, as root, by Python's standard library alone: how it is, and how it was recorded.

    python3 program.py record|before|report|guard [--deep]

AIDE reads the files; the rest is asked of the kernel, systemd, dpkg and Docker. Both become one mapping: what it is
(a path, or ``mount: /srv/x``) to how it is. ``record`` keeps it; after ``before``, only what has changed since then.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path("/var/lib/ojai/surface")
ORDER, RECORD, BEFORE, MADE_BY = (FOLDER / name for name in ("order.json", "record.json", "before.json", "recorded"))
AIDE = "/usr/bin/aide"

#: What is compared of a file; of others than regular files only what is no matter of their content.
FIELDS = ("perm", "uid", "gid", "lname", "size", "ctime", "mtime", "acl", "sha256", "xattrs", "e2fsattrs")
RIGHTS = ("perm", "uid", "gid", "lname", "acl", "xattrs")

#: ext4's, as far as a person sets them: append-only and immutable. The rest the file system sets by itself.
_FLAGS = 0x10 | 0x20

State = dict[str, Any]


def say(*argv: str) -> str:
    """What a program prints; nothing where it fails or is not there."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def text(path: str | Path) -> str:
    """A file's text; nothing without one."""
    try:
        return Path(path).read_text(errors="surrogateescape")
    except OSError:
        return ""


# ---- files, as AIDE reads them


def files(rules: str) -> State:
    """Path -> its fields, of all that the rules name. OSError where AIDE does not read them."""
    with tempfile.TemporaryDirectory(prefix="ojai-surface-") as folder:
        database = f"{folder}/db"
        head = f"database_out=file:{database}\ngzip_dbout=no\nreport_url=file:/dev/null\nlog_level=error\n"
        done = subprocess.run(
            [AIDE, "--config=-", "--init"], input=head + rules, capture_output=True, text=True, check=False
        )
        lines = text(database).splitlines()
        if done.returncode != 0 or "@@end_db" not in lines:
            raise OSError(f"aide exited {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
    found: State = {}
    names: list[str] = []
    for line in lines:
        words = line.split(" ")
        if line.startswith("@@db_spec"):
            names = words[1:]
        elif line.startswith("/"):
            entry = dict(zip(names, words))  # noqa: B905  # Python 3.9 has no strict
            found[urllib.parse.unquote(entry["name"])] = fields(entry)
    return found


def fields(entry: dict[str, str]) -> dict[str, str]:
    """A line of AIDE's database, without what says nothing."""
    names = FIELDS if stat.S_ISREG(int(entry["perm"], 8)) else RIGHTS
    found = {name: entry[name] for name in names if entry.get(name, "0") not in ("0", "")}
    if "uid" in entry:
        found |= {"uid": entry["uid"], "gid": entry["gid"]}
    if "e2fsattrs" in found:
        flags = int(found.pop("e2fsattrs")) & _FLAGS
        found |= {"e2fsattrs": "".join("ai"[not flag & 0x20] for flag in (0x10, 0x20) if flags & flag)} if flags else {}
    return found


# ---- the live side: one line a thing


def mounts(order: State) -> Iterator[tuple[str, str]]:
    """What is mounted, without what comes and goes with containers, sessions and snaps."""
    for line in text("/proc/1/mountinfo").splitlines():
        words, _, more = line.partition(" - ")
        root, target, options = words.split(" ")[3:6]
        kind, source, *_ = more.split(" ")
        target = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), target)
        if kind in order["mounts_passed"]["kinds"] or re.match(order["mounts_passed"]["targets"], target):
            continue
        kept = sorted(set(options.split(",")) & {"ro", "rw", "nosuid", "nodev", "noexec"})
        yield f"mount: {target}", f"{kind} {source} {root} {','.join(kept)}"


def devices(order: State) -> Iterator[tuple[str, str]]:
    """Device nodes. The number of one that sysfs knows by now may change with a boot."""
    for pattern in order["devices"]:
        for path in sorted(map(str, Path("/").glob(pattern.lstrip("/")))):
            found = os.lstat(path)
            number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
            name = path.rsplit("/", 1)[1]
            known = {text(f"/sys/class/{kind}/{name}/dev").strip() for kind in ("kfd", "drm", "mem", "misc")} - {""}
            kind = {stat.S_IFCHR: "character", stat.S_IFBLK: "block", stat.S_IFLNK: "link"}.get(
                stat.S_IFMT(found.st_mode)
            )
            where = "as the kernel has it" if number in known else number
            yield f"device: {path}", f"{kind or 'no device'} {where if kind in ('character', 'block') else ''}".strip()


def kernel(order: State) -> Iterator[tuple[str, str]]:
    """Its command line, what GRUB gives it, and the parameters of modules."""
    yield "command line", " ".join(word for word in text("/proc/cmdline").split() if not word.startswith("BOOT_IMAGE="))
    lines = re.findall(r"^\s*linux\s+\S+(.*)$", text("/boot/grub/grub.cfg"), re.MULTILINE)
    for line in lines:
        yield f"boot options: {' '.join(line.split())}", "in grub.cfg"
    yield "default target", say("systemctl", "get-default").strip()
    for module in order["modules"]:
        for path in sorted(Path(f"/sys/module/{module}/parameters").glob("*")):
            yield f"module: {module}.{path.name}", text(path).strip()


#: As systemd has a unit: where it is from, and what holds it back.
_UNIT = (
    *("Id", "FragmentPath", "DropInPaths", "UnitFileState", "NeedDaemonReload", "User", "MemoryMax", "MemoryHigh"),
    *(
        "MemorySwapMax",
        "CPUQuotaPerSecUSec",
        "TasksMax",
        "AllowedCPUs",
        "CPUWeight",
        "IOWeight",
        "Nice",
        "DevicePolicy",
    ),
    *("LimitMEMLOCK", "LimitNOFILE", "OOMScoreAdjust", "RootDirectory"),
)


def units(order: State) -> Iterator[tuple[str, str]]:
    """Units as systemd has them, and the environment that it gives to them."""
    shown = say("systemctl", "show", *order["units"], "-p", ",".join(_UNIT))
    for block in shown.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if name := values.pop("Id", ""):
            yield f"unit: {name}", "; ".join(f"{key}={value}" for key, value in sorted(values.items()) if value)
    for line in say("systemctl", "show-environment").splitlines():
        name, _, value = line.partition("=")
        if re.match(r"PATH$|LD_|DOCKER_|PYTHON|BASH_ENV$|ENV$", name):
            yield f"environment: {name}", value
        elif name.lower().endswith("_proxy"):  # it may have a password
            yield f"environment: {name}", "set"


def processes(order: State) -> Iterator[tuple[str, str]]:
    """How the daemons were started."""
    found: dict[str, set[str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            program = str((folder / "exe").readlink()).removesuffix(" (deleted)")
        except OSError:
            continue
        if program in order["daemons"]:
            found.setdefault(program, set()).add(text(folder / "cmdline").replace("\0", " ").strip())
    for program, lines in found.items():
        yield f"process: {program}", " | ".join(sorted(lines))


def containers(order: State) -> Iterator[tuple[str, str]]:
    """Containers of ours as Docker has them, and the limits that the kernel has for their first process."""
    if not order["containers"]:
        return
    asked = ("docker", "container", "inspect", "--format", "{{json .}}")
    for name in order["containers"]:
        try:
            one = json.loads(say(*asked, name))
        except ValueError:
            continue
        for key, value in one["HostConfig"].items():
            if value not in (None, "", [], {}, 0, False):
                yield f"container: {name} HostConfig.{key}", json.dumps(value, sort_keys=True)
        pid = one["State"]["Pid"]
        for line in text(f"/proc/{pid}/limits").splitlines()[1:]:
            limit, *values = re.split(r"\s{2,}", line.strip())
            yield f"container: {name} limit {limit}", " ".join(values)
        group = text(f"/proc/{pid}/cgroup").rpartition("::")[2].strip()
        for key in ("memory.max", "memory.high", "memory.swap.max", "cpu.max", "cpu.weight", "cpuset.cpus", "pids.max"):
            if value := text(f"/sys/fs/cgroup{group}/{key}").strip():
                yield f"container: {name} {key}", value
        if pid:
            yield f"container: {name} oom_score_adj", text(f"/proc/{pid}/oom_score_adj").strip()
            for path, state in changed_programs(pid):
                yield f"container: {name} {path}", state


#: In a container: programs and what Python reads. What a server compiles as it runs is none.
_PROGRAM = re.compile(r"(?!.*/(jit|__pycache__)/)(/(usr/(local/)?)?s?bin/.|/etc/ld\.so|.*\.(py|pth)$)")


def changed_programs(pid: int) -> Iterator[tuple[str, str]]:
    """Programs that a container has otherwise than its image, as overlayfs keeps them."""
    roots = [line for line in text(f"/proc/{pid}/mountinfo").splitlines() if line.split(" ")[4] == "/"]
    for upper in re.findall(r"upperdir=([^,\s]+)", roots[-1] if roots else ""):
        tops = (f"{upper}/{top}" for top in ("bin", "sbin", "lib", "usr", "opt", "app", "etc"))
        for path in (f"{folder}/{name}" for top in tops for folder, _, names in os.walk(top) for name in names):
            inside = path[len(upper) :]
            if not _PROGRAM.match(inside):
                continue
            try:
                found = os.lstat(path)
            except FileNotFoundError:  # it has just been removed
                continue
            yield inside, f"{found.st_size} bytes of {time.strftime('%F %T', time.gmtime(found.st_mtime))} UTC"


def tools(order: State) -> Iterator[tuple[str, str]]:
    """What a command of ours would run, and what dpkg has been told to put elsewhere."""
    path = os.environ.get("PATH", os.defpath)
    for name in order["tools"]:
        found = shutil.which(name, path=path)
        if found and not re.match(r"(/usr)?/s?bin/[^/]+$", found):
            yield f"tool: {name}", found
    lines = text("/var/lib/dpkg/diversions").splitlines()
    for original, to, by in zip(lines[::3], lines[1::3], lines[2::3]):  # noqa: B905
        if by == ":" or original.rsplit("/", 1)[-1] in order["tools"]:
            yield f"diversion: {original}", f"to {to} by {'hand' if by == ':' else by}"
    for line in text("/var/lib/dpkg/statoverride").splitlines():
        user, group, mode, target = line.split(" ", 3)
        yield f"override: {target}", f"{user}:{group} {mode}"
    for line in say("dpkg-query", "-W", "-f", "${db:Status-Want} ${Package}\n").splitlines():
        if line.startswith("hold "):
            yield f"hold: {line[5:]}", "on hold"
    for file in order["client_files"]:
        try:
            config = json.loads(text(file) or "{}")
        except ValueError:
            yield f"docker client: {file}", "no JSON"
            continue
        for key, value in config.items() if isinstance(config, dict) else ():
            shown = sorted(value) if isinstance(value, dict) else value  # what is in it may be a password
            yield f"docker client: {file} {key}", json.dumps(shown)


def accounts(order: State) -> Iterator[tuple[str, str]]:
    """Who is root by number, who is in a group that can become it, and how the accounts that we use log in."""
    for line in text("/etc/passwd").splitlines():
        words = line.split(":")
        if len(words) == 7 and (words[2] == "0" or words[0] in order["accounts"]):
            yield f"account: {words[0]}", f"{words[2]}:{words[3]} {words[5]} {words[6]}"
    for line in text("/etc/group").splitlines():
        words = line.split(":")
        if len(words) == 4 and words[0] in order["groups"]:
            yield f"group: {words[0]}", f"{words[2]} {' '.join(sorted(filter(None, words[3].split(','))))}".strip()
    for line in text("/etc/gshadow").splitlines():
        name, password, administrators, *_ = [*line.split(":"), "", ""]
        if name in order["groups"]:
            if password[:1] not in ("", "!", "*"):
                yield f"group: {name}, joined", "by a password"
            if administrators:
                yield f"group: {name}, administrators", administrators
    for line in text("/etc/nsswitch.conf").splitlines():
        database, _, sources = line.partition(":")
        if database in ("passwd", "group", "shadow", "gshadow", "sudoers"):
            yield f"account: all, {database} of nsswitch.conf", " ".join(sources.split())


#: What preflight asks about, which is quick.
GUARD: tuple[Callable[[State], Iterator[tuple[str, str]]], ...] = (mounts, devices, tools)
GUARDED = ("mount", "device", "tool", "diversion", "override", "hold", "docker client")
LIVE = (*GUARD, kernel, units, processes, containers, accounts)


def live(order: State, readers: tuple[Callable[[State], Iterator[tuple[str, str]]], ...] = LIVE) -> State:
    """All of the live side."""
    return {key: value for reader in readers for key, value in reader(order)}


def homes(order: State) -> str:
    """A regular expression for the home folders of root and of the accounts that we use."""
    found = {"/root"}
    for name in order["accounts"]:
        try:
            found.add(pwd.getpwnam(name).pw_dir)
        except KeyError:
            continue
    return "|".join(re.escape(path.lstrip("/")) for path in sorted(found - {"/", "/nonexistent", ""}))


def whole(order: State, cost: dict[str, float] | None = None) -> State:
    """Files and the live side. ``cost``: takes the seconds of each."""
    began = time.monotonic()
    found = files(order["rules"].replace("%HOMES%", homes(order)))
    between = time.monotonic()
    found |= live(order)
    if cost is not None:
        cost |= {"files": between - began, "live": time.monotonic() - between}
    return found


# ---- what explains a difference


def sum_of(path: str, algorithm: str, head: bytes = b"") -> str:
    """The hash of a file; nothing where it cannot be read."""
    found = hashlib.new(algorithm, head)
    try:
        with Path(path).open("rb") as file:
            while part := file.read(1 << 20):
                found.update(part)
    except OSError:
        return ""
    return found.hexdigest()


class Packages:
    """What dpkg knows of paths. ``since``: when the record was made."""

    def __init__(self, paths: list[str], since: float) -> None:
        self.since = since
        self.owner: dict[str, str] = {}
        shown = ""
        for start in range(0, len(paths), 500):
            # It fails where one path is nobody's, and prints the others all the same.
            done = subprocess.run(
                ["dpkg-query", "-S", *(other for path in paths[start : start + 500] for other in _spellings(path))],
                capture_output=True,
                text=True,
                check=False,
            )
            shown += done.stdout
        for line in shown.splitlines():
            names, _, path = line.rpartition(": ")
            if path and not names.startswith("diversion "):
                self.owner[path] = names.split(", ")[0]
        status = text("/var/lib/dpkg/status") if self.owner else ""
        self.conffiles = dict(re.findall(r"^ (/\S+) ([0-9a-f]{32})", status, re.MULTILINE))
        log = f"{text('/var/log/dpkg.log.1')}{text('/var/log/dpkg.log')}"
        self.moved = any(_time(at) >= since for at in re.findall(r"^(\S+ \S+) (?:remove|upgrade) ", log, re.MULTILINE))
        installed = re.findall(r"^(\S+ \S+) status installed (\S+?)(?::\S+)? ", log, re.MULTILINE)
        self.installed = {package: _time(at) for at, package in installed}

    def of(self, path: str) -> str:
        """The package that has the path; empty: none."""
        return next((self.owner[other] for other in _spellings(path) if other in self.owner), "")

    def laid(self, path: str, package: str) -> bool:
        """Whether the package was installed or upgraded since the record, and nobody touched the path after that."""
        name = package.partition(":")[0]
        lists = [Path(f"/var/lib/dpkg/info/{one}.list") for one in (package, name, f"{name}:amd64")]
        last = max([file.stat().st_mtime for file in lists if file.exists()] + [self.installed.get(name, 0.0)])
        return last >= self.since and os.lstat(path).st_ctime <= last + 2

    def matches(self, path: str, package: str) -> bool:
        """Whether a file's content is its package's."""
        wanted = self.conffiles.get(path, "")
        for name in dict.fromkeys((package, f"{package.partition(':')[0]}:amd64")):
            for line in text(f"/var/lib/dpkg/info/{name}.md5sums").splitlines():
                digest, _, file = line.partition("  ")
                if f"/{file}" in _spellings(path):
                    wanted = digest
        return bool(wanted) and sum_of(path, "md5") == wanted


def _spellings(path: str) -> tuple[str, ...]:
    """A path as packages from before /lib became a link have it too."""
    return (path, path[4:]) if re.match(r"/usr/(bin|sbin|lib)/", path) else (path,)


def _time(line: str) -> float:
    try:
        return time.mktime(time.strptime(line[:19], "%Y-%m-%d %H:%M:%S"))
    except ValueError:
        return 0.0


#: A file in the hub's cache is named by its hash: SHA-256, or that of git.
_BLOB = re.compile(r"/blobs/([0-9a-f]{40}|[0-9a-f]{64})$")

#: What a package's own sums say of a file, and times, which say nothing once they match.
_CONTENT = {"size", "ctime", "mtime", "sha256"}


def explanation(path: str, was: Any, now: Any, packages: Packages) -> str:
    """Why a file is another than was recorded, as far as the host can say; empty: nobody knows."""
    scripts = path.startswith("/var/lib/dpkg/info/")
    package = Path(path).stem if scripts else packages.of(path)
    changed = {name for name in FIELDS if (was or {}).get(name) != (now or {}).get(name)}
    if now is None:
        gone = (scripts or (not package and path.startswith("/usr/"))) and packages.moved
        return "removed with its package" if gone else ""
    regular = stat.S_ISREG(int(now["perm"], 8))
    if changed <= _CONTENT and _BLOB.search(path) and not altered(path, packages):
        return "it has the hash that it is named by"
    link = str(now.get("lname", ""))
    if was is None and (path.startswith("/etc/alternatives/") or link.startswith("/etc/alternatives/")):
        end = packages.of(str(Path(path).resolve()))
        return f"an alternative of package {end}" if end else ""
    if not package:
        state = f"/var/lib/systemd/deb-systemd-helper-enabled/{path.partition('/systemd/system/')[2]}"
        target = str(Path(path).resolve()) if Path(path).is_symlink() else ""
        enabled = ".wants/" in path and Path(state).exists()
        return "enabled by its package" if enabled and target.startswith("/usr/lib/systemd/") else ""
    if regular and not scripts and not packages.matches(path, package):
        return ""
    if changed <= _CONTENT and regular and not scripts:
        return f"as in package {package}"
    return f"package {package}, installed since" if packages.laid(path, package) else ""


def altered(path: str, packages: Packages) -> bool:
    """Whether a file has other content than it is named by, or than its package has; configuration is anybody's."""
    package = packages.of(path)
    if not (blob := _BLOB.search(path)):
        return bool(package) and not path.startswith("/etc/") and not packages.matches(path, package)
    name = blob[1]
    if len(name) == 64:
        return sum_of(path, "sha256") != name
    return sum_of(path, "sha1", f"blob {Path(path).stat().st_size}\0".encode()) != name


def told(path: str) -> dict[str, str]:
    """When a file was changed, and by whose account it is had."""
    try:
        found = os.lstat(path)
    except OSError:
        return {}
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return {"when": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.st_ctime)), "owner": owner}


def readable(value: Any) -> Any:
    """A state as a person reads it: the rights of an ACL, the digits of a mode."""
    if not isinstance(value, dict):
        return value
    shown = dict(value)
    if "perm" in shown:
        shown["perm"] = f"{int(shown['perm'], 8) & 0o7777:o}"
    if parts := shown.pop("acl", "").split(","):
        lines = [line for part in parts[1:] if part != "0" for line in _decoded(part).split()]
        # The others are the mode again.
        if named := [line for line in lines if not re.match(r"(user|group|other)::", line)]:
            shown["acl"] = " ".join(named)
    for name in ("ctime", "mtime"):
        if name in shown:
            shown[name] = _decoded(shown[name])
    return shown


def _decoded(word: str) -> str:
    try:
        return base64.b64decode(word).decode()
    except ValueError:
        return word


# ---- what can be asked


def order_sum() -> str:
    """The hash of the order: a record by another one is not whole."""
    return hashlib.sha256(text(ORDER).encode(errors="surrogateescape")).hexdigest()


def write(path: Path, value: str) -> None:
    """Write a file as one, which only root can read."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(0o600)
    with new.open("w") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def loaded(path: Path) -> State | None:
    """A state that was written; None without one."""
    try:
        found: State = json.loads(text(path))
    except ValueError:
        return None
    return found


def before(order: State) -> None:
    """Keep how it is before the first change of a deploy. What an earlier one kept, which was cut off, stands."""
    if not RECORD.exists() or BEFORE.exists():
        return
    try:
        found: State = {"state": whole(order)}
    except OSError:  # until this deploy has installed AIDE again: of files, only what is ours alone is taken as its own
        found = {"state": live(order), "blind": True}
    write(BEFORE, json.dumps(found))


def record(order: State) -> None:
    """Record how it is; after ``before``, only what has changed since: what else differs is nothing of the deploy's."""
    now, kept, earlier = whole(order), loaded(RECORD), loaded(BEFORE)
    at = time.time()
    if kept and not earlier:
        # By another order: what this one adds was never looked at, what it leaves out is no longer.
        state = {key: kept["state"].get(key, value) if key in kept["state"] else value for key, value in now.items()}
        if text(MADE_BY).strip() == order_sum():
            state = kept["state"]
        at = kept["at"]
    elif kept and earlier:
        was, state = earlier["state"], dict(kept["state"])
        for key in now.keys() | was.keys() | state.keys():
            if earlier.get("blind") and key.startswith("/") and not key.startswith("/var/lib/ojai/"):
                continue
            if now.get(key) != was.get(key):
                state.pop(key, None)
                if key in now:
                    state[key] = now[key]
        at = kept["at"]
    else:
        state = now
    write(RECORD, json.dumps({"at": at, "state": state}))
    write(MADE_BY, f"{order_sum()}\n")
    BEFORE.unlink(missing_ok=True)


def compared(kept: State, now: State, deep: bool) -> Iterator[dict[str, Any]]:
    """Every difference, with what explains it."""
    was = kept["state"]
    there = {key.split(" ")[1] for key in now if key.startswith("container: ")}
    keys = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
    # A container that is not there is a service that is not up, which other checks say.
    keys = [key for key in keys if not key.startswith("container: ") or key.split(" ")[1] in there]
    checked = [key for key in now if key.startswith("/")] if deep else []
    paths = [key for key in sorted({*keys, *checked}) if key.startswith("/")]
    ends = [str(Path(key).resolve()) for key in paths if Path(key).is_symlink()]
    packages = Packages([*paths, *ends], kept["at"])
    for key in keys:
        one, other = was.get(key), now.get(key)
        yield {
            "what": key,
            "was": readable(one),
            "now": readable(other),
            "explained": explanation(key, one, other, packages) if key.startswith("/") else "",
            **(told(key) if key.startswith("/") else {}),
        }
    for key in sorted(set(checked) - set(keys)):
        if stat.S_ISREG(int(now[key]["perm"], 8)) and altered(key, packages):
            yield {"what": key, "was": "the content it is to have", "now": "another", "explained": "", **told(key)}


def main(argv: list[str]) -> int:
    """One of the actions; what it has to say is one line of JSON."""
    action = argv[1]
    order = loaded(ORDER)
    if order is None:
        print(json.dumps({"error": f"no {ORDER}"}))
        return 0 if action == "guard" else 1
    cost: dict[str, float] = {}
    try:
        if action == "before":
            before(order)
        elif action == "record":
            record(order)
        else:
            kept = loaded(RECORD)
            if kept is None:
                print(json.dumps({"error": f"no {RECORD}"}))
                return 0
            if action == "guard":
                now = live(order, GUARD)
                kept["state"] = {key: one for key, one in kept["state"].items() if key.split(": ")[0] in GUARDED}
            else:
                now = whole(order, cost)
            began = time.monotonic()
            found = list(compared(kept, now, "--deep" in argv))
            cost["explaining"] = time.monotonic() - began
            print(json.dumps({"at": kept["at"], "things": len(now), "cost": cost, "differences": found}))
    except OSError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
