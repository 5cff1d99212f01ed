"""``ojai open``: all that a client of the hosts needs."""

from __future__ import annotations

import ipaddress
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import click

from ojai import gateway, resources, watch
from ojai.engines import ResolvedService
from ojai.facts.gateway import Access
from ojai.parameters import InventoryFile, limit_option, resolved
from ojai.pyinfra_runs.collect import CollectError, collect_access
from ojai.settings.inventory import Entry

_EPILOG = """\b
Examples:
  ojai open inventory/ojai.py
  ojai open inventory/ojai.py --show-key
  ojai open inventory/fleet.py --limit mini-03 --json
  ojai open inventory/fleet.py --prometheus /etc/prometheus/ojai

Exit status: 0 done, 1 a host gave no answer or has no gateway yet, 2 usage error or faulty inventory.
"""


@dataclass(frozen=True)
class Service:
    """One that can be asked: ``base_url`` as clients of OpenAI's API take it."""

    name: str
    model: str
    base_url: str


@dataclass(frozen=True)
class Opened:
    """How a host's services are reached.

    + authority: the file with the certificate to trust, on this machine; its place on the host is ``host_authority``
    + keys: by name; None for one that is not shown, or that was deleted on the host
    + keys_here: those of them that the host never had in plain text, with where the deploy reads them
    + networks: those from which it is reached; none: from every one
    + tunnel: the command that makes the host's own address this machine's
    """

    name: str
    exposure: str
    services: list[Service]
    authority: str | None = None
    host_authority: str | None = None
    keys: dict[str, str | None] = field(default_factory=dict)
    keys_on_host: str | None = None
    keys_here: dict[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    tunnel: str | None = None
    failure: str | None = None


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@limit_option
@click.option("--show-key", is_flag=True, help="Read the keys from the hosts, and print them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--prometheus",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Also write what a Prometheus elsewhere reads: targets, authorities, alert rules, dashboard, configuration.",
)
def command(inventory: str, limit: tuple[str, ...], show_key: bool, as_json: bool, prometheus: Path | None) -> None:
    """Show how the services of INVENTORY are reached: address, certificate, model, key, and a request to copy.

    The certificate of each host's own authority is fetched from the host, by SSH, into a file of this account. Keys
    stay on the host unless --show-key is given.
    """
    inventory, entries = resolved(inventory, limit)
    entries = [entry for entry in entries if not entry.settings.removed]
    guarded = [entry.name for entry in entries if gateway.wanted(entry.settings)]
    try:
        access, failures = collect_access(inventory, guarded, limit, show_key) if guarded else ({}, {})
    except CollectError as error:
        raise click.ClickException(str(error)) from None
    found = [_opened(entry, access.get(entry.name), failures.get(entry.name)) for entry in entries]
    if prometheus:
        _for_prometheus(prometheus, entries, access)
    if as_json:
        click.echo(json.dumps({"inventory": inventory, "hosts": [asdict(one) for one in found]}, indent=2))
    else:
        for number, one in enumerate(found):
            click.echo(("\n" if number else "") + "\n".join(_lines(one, show_key)))
    sys.exit(1 if any(one.failure for one in found) else 0)


def _for_prometheus(folder: Path, entries: list[Entry], access: Mapping[str, Access]) -> None:
    """Write the files of a Prometheus that reads these hosts through their gateways; its key is put there by hand."""
    read = [entry for entry in entries if gateway.wanted(entry.settings) and entry.settings.gateway_metrics_from]
    if not read:
        raise click.ClickException(
            "--prometheus: found no host with a gateway whose `gateway_metrics_from` names an address; expected those "
            "of your Prometheus there. What to do: set `watch: fleet` and both of them, deploy, then run this again"
        )
    targets = []
    for entry in read:
        parts = urlsplit(_url(entry))
        targets += watch.targets(entry.settings, entry.name, f"{parts.netloc}" if parts.port else f"{parts.netloc}:443")
    authorities = [access[entry.name].authority for entry in read if entry.name in access]
    files = {
        "targets.json": json.dumps(targets, indent=2) + "\n",
        "ca.crt": "".join(authorities),
        "alerts.yml": watch.alerts(),
        "dashboard.json": (resources.FILES / "dashboards/ojai.json").read_text(encoding="utf-8"),
        "prometheus.yml": watch.prometheus(
            "targets.json",
            "alerts.yml",
            alerts_to=False,
            tls_config={"ca_file": "ca.crt"} if any(authorities) else {},
            authorization={"credentials_file": "key"},
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    click.echo(
        f"Wrote {', '.join(files)} to {folder}. Put a key that all of these hosts know into {folder / 'key'}, readable "
        "by Prometheus alone.",
        err=True,
    )


def _url(entry: Entry) -> str:
    """Where the gateway is reached."""
    address = str(entry.data.get("ssh_hostname") or entry.name)
    shown = f"[{address}]" if ":" in address else address
    return entry.settings.gateway_url or f"https://{shown}:{entry.settings.gateway_port}"


def _opened(entry: Entry, access: Access | None, failure: str | None) -> Opened:
    settings = entry.settings
    address = str(entry.data.get("ssh_hostname") or entry.name)
    shown = f"[{address}]" if ":" in address else address
    if not gateway.wanted(settings):
        local = settings.exposure == "loopback"
        services = [
            Service(
                service.name,
                service.command.served_model_name,
                f"http://{_address(service, shown, local)}:{service.port}/v1",
            )
            for service in settings.resolved
        ]
        return Opened(
            entry.name,
            settings.exposure,
            services,
            networks=() if local else settings.firewall_networks,
            tunnel=_tunnel(entry, address) if local else None,
        )
    url = _url(entry)
    services = [
        Service(service.name, service.command.served_model_name, f"{url}{gateway.prefix(settings, service)}/v1")
        for service in settings.resolved
    ]
    if access is not None and not access.keys:
        failure = "found no gateway; expected that of a deploy. What to do: run the deploy, then this again"
    own = settings.gateway_certificate is not None
    return Opened(
        entry.name,
        settings.exposure,
        services,
        authority=_kept(entry.name, access.authority) if access and access.authority and not own else None,
        host_authority=None if own else gateway.AUTHORITY,
        keys=dict(access.keys) if access else {},
        keys_on_host=gateway.KEYS,
        keys_here={name: str(source) for name, source in settings.gateway_key_sources.items()},
        networks=settings.firewall_networks,
        failure=failure,
    )


def _address(service: ResolvedService, shown: str, local: bool) -> str:
    """Where one that has no gateway listens: the host's own address, unless it has one of its own."""
    own = ipaddress.ip_address(service.host)
    if local or own.is_loopback:
        return service.address
    return shown if own.is_unspecified else f"[{own}]" if own.version == 6 else str(own)


def _kept(name: str, text: str) -> str:
    """The file of this account with a host's certificate of authority; nothing in it is secret."""
    folder = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "ojai"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name.replace('/', '-')}.crt"
    if not file.is_file() or file.read_text() != text:
        file.write_text(text)
    return str(file)


def _tunnel(entry: Entry, address: str) -> str:
    data = entry.data
    words = ["ssh", "-N"]
    for service in entry.settings.resolved:
        words += ["-L", f"{service.port}:{service.address}:{service.port}"]
    if data.get("ssh_port"):
        words += ["-p", str(data["ssh_port"])]
    if data.get("ssh_key"):
        words += ["-i", str(data["ssh_key"])]
    return shlex.join([*words, f"{data['ssh_user']}@{address}" if data.get("ssh_user") else address])


def _lines(one: Opened, show_key: bool) -> Iterator[str]:
    yield f"{one.name}: {one.exposure}"
    for service in one.services:
        yield f"  {service.name}: {service.base_url}"
        yield f"    model {service.model}"
    if one.failure:
        yield f"  {one.failure}"
    if not one.services or one.failure:
        return
    first = one.services[0]
    if one.exposure == "open":
        yield "  No key, no TLS: whoever reaches the port can use it."
    if one.tunnel:
        yield f"  Only the host itself reaches it. A tunnel: {one.tunnel}"
    if one.networks:
        yield f"  From these networks only: {', '.join(one.networks)}"
    trust = ""
    if one.keys:
        for name, key in one.keys.items():
            here = f"on the host, in {one.keys_on_host}/{name}.key"
            gone = f"{here}, unless that was deleted" if show_key else f"{here}; --show-key prints it"
            if name in one.keys_here:
                gone = f"in {one.keys_here[name]}; the host has its sum alone"
            yield f"  key {name}: {key or gone}"
    if one.authority:
        trust = f"--cacert {shlex.quote(one.authority)} "
        yield f"  Trust this authority: {one.authority}"
    guarded = one.exposure == "gateway"
    body = json.dumps({"model": first.model, "messages": [{"role": "user", "content": "Say hello."}]})
    yield ""
    if guarded:
        yield "  export OPENAI_API_KEY=…   # the key, in place of the dots"
    yield f"  curl {trust}{first.base_url}/chat/completions \\"
    if guarded:
        yield '    -H "Authorization: Bearer $OPENAI_API_KEY" \\'
    yield f"    -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    yield ""
    yield from (f"  {line}" for line in _python(one, first))


def _python(one: Opened, service: Service) -> Iterator[str]:
    options = [f"base_url={service.base_url!r}"]
    if one.exposure != "gateway":
        options.append('api_key="none"')
    if one.authority:
        yield "import ssl"
    yield "import openai"
    if one.authority:
        yield f"trusted = ssl.create_default_context(cafile={one.authority!r})"
        options.append("http_client=openai.DefaultHttpxClient(verify=trusted)")
    yield f"client = openai.OpenAI({', '.join(options)})"
    yield f"answer = client.chat.completions.create(model={service.model!r}, messages=["
    yield '    {"role": "user", "content": "Say hello."}'
    yield "])"
    yield "print(answer.choices[0].message.content)"
