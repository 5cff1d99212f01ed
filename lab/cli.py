"""`ojai lab`: up, container, down, status, ssh, snapshot, restore, power-cut, network-cut, network-mend."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time

import click
from click.shell_completion import CompletionItem

from ojai.lab import bridge, container, image, packages, state, suites, upstreams, vm
from ojai.lab.errors import LabError
from ojai.lab.shell import step
from ojai.lab.state import ContainerRecord, HostRecord, LineRecord, Records


def _size(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Return bytes for a size on the command line such as 64GiB."""
    try:
        size = None if text is None else state.parse_size(text)
        if option.name == "memory" and size is not None and size < state.LEAST_MEMORY:
            raise LabError(f"{text} is too little for the guest: give it {state.show_size(state.LEAST_MEMORY)} or more")
        return size
    except LabError as bad:
        raise click.BadParameter(bad.message, context, option) from bad


def _checked(names: tuple[str, ...]) -> list[str]:
    for name in names:
        if not state.HOST_NAME.fullmatch(name):
            raise click.UsageError(f"{name!r} cannot be a lab host's name: small letters, digits and -, a letter first")
    return list(dict.fromkeys(names))


def _known(records: Records, name: str) -> HostRecord:
    if name in records.containers:
        raise LabError(f"{name} is a container; this command works on virtual machines only")
    host = records.hosts.get(name)
    if host is None:
        _checked((name,))
        known = ", ".join(records.hosts) or "none"
        raise LabError(f"there is no lab host {name!r} (there are: {known}); run `ojai lab up {name}`")
    return host


def _running(host: HostRecord | ContainerRecord) -> bool:
    return bool(host.process and host.process.alive)


def _keep(records: Records, host: HostRecord | ContainerRecord) -> Records:
    kind = "hosts" if isinstance(host, HostRecord) else "containers"
    records = records.model_copy(update={kind: {**getattr(records, kind), host.name: host}})
    state.write(records)
    return records


def _boot(records: Records, host: HostRecord) -> Records:
    records = _keep(records, vm.start(host))
    vm.write_ssh_files(records)
    return records


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in state.read().guests if name.startswith(incomplete)]


def _suite(guest: HostRecord | ContainerRecord | None, asked: str | None) -> suites.Suite:
    """The suite of a guest that is there, or of a new one. A guest keeps its own."""
    if guest is None:
        return suites.chosen(asked)
    if asked not in (None, guest.suite):
        raise LabError(
            f"{guest.name} is of {guest.suite}, not {asked}: give the new one another name, or remove this one first "
            f"(`ojai lab down {guest.name} --destroy`)"
        )
    return suites.of(guest.suite)


def _engine(guest: HostRecord | ContainerRecord, engine: str | None) -> None:
    if engine and guest.engine != engine:
        raise LabError(
            f"{guest.name} was made with the engine {guest.engine}, which is part of its disk; "
            f"run `ojai lab down {guest.name} --destroy` first, or give another name"
        )


_suite_option = click.option(
    "--suite",
    type=click.Choice(list(suites.SUITES)),
    envvar="OJAI_LAB_SUITE",
    help=f"System of a new guest. Without it {suites.REAL}, which is Ubuntu 24.04, on an Ubuntu whose archive answers, "
    f"else {suites.STAND_IN}. [env: OJAI_LAB_SUITE]",
)
_engine_option = click.option(
    "--engine",
    type=click.Choice(image.ENGINES),
    envvar="OJAI_LAB_ENGINE",
    help="Docker of a new host: the suite's with overlay2 (the default), or a newer one with containerd's image store. "
    "[env: OJAI_LAB_ENGINE]",
)


@click.group()
def command() -> None:
    """A real virtual machine to try the deploy on, with stand-ins for what is outside."""


@command.command()
@click.argument("names", nargs=-1, shell_complete=_complete)
@click.option(
    "--carveout",
    metavar="SIZE",
    callback=_size,
    help="BIOS graphics memory carve-out, e.g. 64GiB. A change restarts the VM.",
)
@click.option("--memory", metavar="SIZE", callback=_size, help="Memory of the VM, e.g. 3GiB. A change restarts the VM.")
@click.option(
    "--cpus",
    type=click.IntRange(1, 16),
    envvar="OJAI_LAB_CPUS",
    help="Processors of the VM; 2 when it is new. A change restarts the VM. [env: OJAI_LAB_CPUS]",
)
@_suite_option
@_engine_option
def up(
    names: tuple[str, ...],
    carveout: int | None,
    memory: int | None,
    cpus: int | None,
    suite: str | None,
    engine: str | None,
) -> None:
    """Start lab hosts (default: lab) and the stand-ins; what runs already is left alone."""
    expected = _checked(names) or ["lab"]
    began = time.monotonic()
    with state.locked():
        records = state.read()
        systems = {name: _suite(records.hosts.get(name), suite) for name in expected}
        packages.ensure(keyrings={system.vendor for system in systems.values()})
        vm.make_key(state.folder() / "keys" / "login", "login key of the ojai lab")
        records = upstreams.start(records)
        booting = []
        for name in expected:
            if name in records.containers:
                raise LabError(f"{name} is a container of this lab; give the virtual machine another name")
            host = records.hosts.get(name)
            if host is None:
                made = engine or image.ENGINES[0]
                size = (carveout or state.DEFAULT_CARVEOUT, memory or state.DEFAULT_MEMORY)
                host = vm.create(name, image.base(systems[name], made), *size, suite=systems[name].name, engine=made)
            _engine(host, engine)
            changed = host.model_copy(
                update={
                    "carveout_bytes": carveout or host.carveout_bytes,
                    "memory_bytes": memory or host.memory_bytes,
                    "cpus": cpus or host.cpus,
                }
            )
            if _running(host) and changed != host:
                click.echo(f"lab: {name}: its hardware changes: a power cycle", err=True)
                changed = vm.stop(changed)
            if not _running(changed):
                records = _boot(records, changed)
                booting.append(name)
        records = upstreams.push_images(records)
        state.write(records)
        for name in expected:
            if name in booting:
                with step(f"waiting for {name} to boot and accept SSH"):
                    vm.wait_for_ssh(records.hosts[name])
            else:
                vm.wait_for_ssh(records.hosts[name], 60)
    click.echo(f"lab: up after {time.monotonic() - began:.1f} s: {', '.join(expected)}", err=True)


def _milliseconds(context: click.Context, option: click.Parameter, text: str) -> int:
    match = re.fullmatch(r"(\d{1,4})\s*ms", text.strip())
    if not match:
        raise click.BadParameter(f"{text!r} is no time such as 20ms, up to 9999ms", context, option)
    return int(match.group(1))


@command.command("container")
@click.argument("names", nargs=-1, shell_complete=_complete)
@click.option(
    "--hosts",
    type=click.IntRange(1, 200),
    metavar="N",
    help="N containers, NAME-1 to NAME-N, with addresses of their own on a bridge, over one root file system.",
)
@click.option(
    "--rtt",
    metavar="TIME",
    default="0ms",
    callback=_milliseconds,
    help="With --hosts: what the line to the bridge adds to a round trip, e.g. 20ms. Can be changed while they run.",
)
@click.option(
    "--loss",
    type=click.FloatRange(0, 50),
    metavar="PERCENT",
    default=0,
    help="With --hosts: the share of packets that the line loses each way, e.g. 0.5.",
)
@_suite_option
@_engine_option
def containers(
    names: tuple[str, ...], hosts: int | None, rtt: int, loss: float, suite: str | None, engine: str | None
) -> None:
    """Start containers (default: one called container) and the stand-ins: booted systemd guests in seconds.

    For what needs no kernel of its own. `ssh`, `status` and `down` are the same as for virtual machines.
    """
    expected = _checked(names) or ["container"]
    if hosts is None and (rtt or loss):
        raise click.UsageError("--rtt and --loss belong to --hosts: other containers are reached by loopback")
    if hosts is not None:
        if len(expected) > 1:
            raise click.UsageError("--hosts takes one NAME, from which it makes NAME-1, NAME-2 and so on")
        expected = _checked(tuple(f"{expected[0]}-{number}" for number in range(1, hosts + 1)))
    began = time.monotonic()
    with state.locked():
        records = state.read()
        systems = {name: _suite(records.containers.get(name), suite) for name in expected}
        line = packages.LINE_PROGRAMS if rtt or loss else {}
        packages.ensure({**packages.CONTAINER_PROGRAMS, **line}, {system.vendor for system in systems.values()})
        vm.make_key(state.folder() / "keys" / "login", "login key of the ojai lab")
        for name in expected:
            if name in records.hosts:
                raise LabError(f"{name} is a virtual machine of this lab; give the container another name")
        records = upstreams.start(records)
        if hosts is not None:
            there = bridge.up(records.line or LineRecord(), LineRecord(rtt_ms=rtt, loss_percent=loss))
            records = records.model_copy(update={"line": there})
            state.write(records)
        for name in expected:
            guest = records.containers.get(name)
            if guest is None:
                kind = {"suite": systems[name].name, "engine": engine or image.ENGINES[0]}
                if hosts is None:
                    guest = ContainerRecord(name=name, port=vm.free_port(), **kind)
                else:
                    free = bridge.free_address({one.address for one in records.containers.values()})
                    guest = ContainerRecord(name=name, address=free, port=bridge.PORT, **kind)
            if guest.on_bridge and hosts is None:
                raise LabError(f"{name} is one of several on the lab's bridge: start them with --hosts")
            _engine(guest, engine)
            if not _running(guest):
                records = _keep(records, guest)
                if not container.ready(name):
                    container.create(name, container.base(systems[name], guest.engine), shared=guest.on_bridge)
                records = _keep(records, container.start(guest))
                if guest.on_bridge:
                    bridge.join(guest)
        vm.write_ssh_files(records)
        for name in expected:
            container.wait_for_ssh(records.containers[name])
    click.echo(f"lab: up after {time.monotonic() - began:.1f} s: {', '.join(expected)}", err=True)


@command.command()
@click.argument("names", nargs=-1, shell_complete=_complete)
@click.option("--destroy", is_flag=True, help="Remove the disks too; without names, the lab's whole folder.")
def down(names: tuple[str, ...], destroy: bool) -> None:
    """Power lab hosts and containers down (default: all). With the last one, the stand-ins stop too."""
    with state.locked():
        records = state.read()
        for name in _checked(names) or list(records.guests):
            guest = records.containers.get(name)
            host = container.stop(guest) if guest else vm.stop(_known(records, name))
            records = _keep(records, host)
            if destroy:
                container.remove(name) if guest else shutil.rmtree(vm.home(name))
                kind = "containers" if guest else "hosts"
                rest = {key: value for key, value in getattr(records, kind).items() if key != name}
                records = records.model_copy(update={kind: rest})
                state.write(records)
        if records.line and not any(_running(one) for one in records.containers.values() if one.on_bridge):
            bridge.down()
            records = records.model_copy(update={"line": None})
            state.write(records)
        if records.idle:
            records = upstreams.stop(records)
            state.write(records)
        if destroy and not names:
            container.remove_shared_trees()
            for item in state.folder().iterdir():
                if item.name != "lock":
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
        elif records.guests:
            vm.write_ssh_files(records)
        if records.idle:
            shutil.rmtree(state.runtime_folder(), ignore_errors=True)
    click.echo("lab: down", err=True)


@command.command()
@click.option("--json", "as_json", is_flag=True, help="The same as JSON on stdout.")
def status(as_json: bool) -> None:
    """Show the hosts and the stand-ins. Exit status 1 when no host runs."""
    records = state.read()
    lab = state.view(records)
    if as_json:
        click.echo(json.dumps(lab.model_dump(mode="json") if lab else {"hosts": [], "upstreams": None}, indent=2))
    elif lab is None:
        click.echo("no lab here yet: run `ojai lab up`")
    else:
        for host in lab.hosts:
            click.echo(
                f"{host.name}: {host.suite}, {'running' if host.running else 'down'}, 127.0.0.1:{host.port}, "
                f"carve-out {state.show_size(host.carveout_bytes)}, memory {state.show_size(host.memory_bytes)}, "
                f"Docker with {host.engine}"
            )
        for guest in lab.containers:
            running = "running" if guest.running else "down"
            click.echo(
                f"{guest.name}: container, {guest.suite}, {running}, {guest.address}:{guest.port}, "
                f"Docker with {guest.engine}"
            )
        if records.line:
            click.echo(f"bridge: {records.line.rtt_ms} ms added, {records.line.loss_percent:g} % lost each way")
        for what, record in (("apt archive", records.rocm), ("registry", records.registry)):
            if record:
                alive = record.process and record.process.alive
                click.echo(f"{what}: {'running' if alive else 'down'}, 127.0.0.1:{record.port}")
        click.echo(f"ssh config: {state.folder() / 'ssh_config'}")
    if records.idle:
        sys.exit(1)


@command.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name", shell_complete=_complete)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, words: tuple[str, ...]) -> None:
    """Log in to NAME, or run CMD there and return its exit status: `ojai lab ssh lab -- uname -r`."""
    records = state.read()
    guest = records.containers.get(name)
    if not _running(guest or _known(records, name)):
        raise LabError(f"lab host {name} is not running; run `ojai lab {'container' if guest else 'up'} {name}`")
    if words and words[0] == "--":
        words = words[1:]
    tty = ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    argv = [*vm.ssh_argv(name, "-o", "LogLevel=ERROR", *tty), *(("--", *words) if words else ())]
    os.execvp(argv[0], argv)


def _label(label: str) -> str:
    if not state.LABEL.fullmatch(label):
        raise LabError(f"{label!r} cannot be a snapshot's label: letters, digits, dot, - and _")
    return label


def _boot_and_wait(records: Records, host: HostRecord) -> Records:
    records = _boot(records, host)
    with step(f"waiting for {host.name} to boot and accept SSH"):
        vm.wait_for_ssh(records.hosts[host.name])
    return records


@command.command()
@click.argument("name", shell_complete=_complete)
@click.argument("label")
@click.option("--running", is_flag=True, help="Keep the memory of the running machine too; it is not powered down.")
def snapshot(name: str, label: str, running: bool) -> None:
    """Keep the disk of NAME as LABEL (powers it down for that, and up again if it ran)."""
    label = _label(label)
    with state.locked():
        records = state.read()
        host = _known(records, name)
        if running:
            if not _running(host):
                raise LabError(f"lab host {name} is not running; run `ojai lab up {name}`, or leave --running out")
            with step(f"snapshot {label!r} of {name}, as it runs"):
                vm.snapshot_running(name, label)
            return
        ran = _running(host)
        if ran:
            host = vm.stop(host)
            records = _keep(records, host)
        with step(f"snapshot {label!r} of {name}"):
            vm.snapshot(name, label)
        if ran:
            _boot_and_wait(records, host)


@command.command()
@click.argument("name", shell_complete=_complete)
@click.argument("label")
def restore(name: str, label: str) -> None:
    """Put NAME back to LABEL: its disk, for which its power is cut and it boots again if it ran.

    What was kept with --running runs on from there, without a boot, whether NAME runs now or not.
    """
    label = _label(label)
    with state.locked():
        records = state.read()
        host = _known(records, name)
        known = vm.snapshots(name)
        if label not in known:
            raise LabError(f"lab host {name} has no snapshot {label!r} (there are: {', '.join(known) or 'none'})")
        ran = _running(host)
        if known[label]:
            if not ran:
                records = _boot(records, host)
            with step(f"restore {label!r} of {name}, as it ran"):
                vm.restore_running(name, label)
            return
        if ran:
            host = vm.power_cut(host)
            records = _keep(records, host)
        with step(f"restore {label!r} of {name}"):
            vm.restore(name, label)
        if ran:
            _boot_and_wait(records, host)


@command.command("power-cut")
@click.argument("name", shell_complete=_complete)
def power_cut(name: str) -> None:
    """Kill the virtual machine at once, as a power failure does. `ojai lab up NAME` boots it again."""
    with state.locked():
        records = state.read()
        _keep(records, vm.power_cut(_known(records, name)))
    click.echo(f"lab: power of {name} cut", err=True)


def _network(name: str, up: bool) -> None:
    host = _known(state.read(), name)
    if not _running(host):
        raise LabError(f"lab host {name} is not running")
    vm.set_network(name, up)


@command.command("network-cut")
@click.argument("name", shell_complete=_complete)
def network_cut(name: str) -> None:
    """Pull NAME's network cable out: nothing reaches it any more, and nobody is told."""
    _network(name, up=False)
    click.echo(f"lab: network of {name} cut", err=True)


@command.command("network-mend")
@click.argument("name", shell_complete=_complete)
def network_mend(name: str) -> None:
    """Put NAME's network cable back, and wait until it answers."""
    _network(name, up=True)
    vm.wait_for_ssh(state.read().hosts[name], 60)
    click.echo(f"lab: network of {name} is back", err=True)
