"""What watches a host: where its things are there, and their configuration as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import ojai
from ojai import gateway, resources
from ojai.engines import ResolvedService
from ojai.facts.report.watch import ALERTMANAGER, EXPORTER, PROMETHEUS, TEXTFILES, WatchReport
from ojai.gateway import NODE_PORT
from ojai.paths import SECRETS, UNITS
from ojai.profiles import budgets
from ojai.settings import HostSettings

FOLDER = f"{SECRETS}/watch"
CONFIGURATION = f"{FOLDER}/prometheus.yml"
ALERTS = f"{FOLDER}/alerts.yml"
TARGETS = f"{FOLDER}/targets.json"
RECEIVER = f"{FOLDER}/alertmanager.yml"
COLLECTOR = f"{FOLDER}/collect"
#: Samples that the inventory knows. The collector copies them, and the verdict that `ojai verify` left.
SAID = f"{FOLDER}/said.prom"
VERDICT = "/var/lib/ojai/watch/verify.prom"

#: Root alone reads them; systemd hands them to Alertmanager.
SECRET_FOLDER = f"{SECRETS}/watch-secrets"
_CREDENTIALS = "/run/credentials/prometheus-alertmanager.service"

UNIT = "ojai-watch.service"
TIMER = "ojai-watch.timer"

PACKAGES = (PROMETHEUS, EXPORTER, ALERTMANAGER)
#: With the options of each: its unit reads them in the place of the package's /etc/default, which stays as it is.
DROP_INS = {package: f"{UNITS}/{package}.service.d/ojai.conf" for package in PACKAGES}
ALERTMANAGER_PORT = 9093

#: What the packages leave behind, and the account that they do not remove.
STATE = (
    f"{PROMETHEUS}:/var/lib/prometheus/",
    f"{PROMETHEUS}:/etc/prometheus/",
    f"{PROMETHEUS}:/var/log/prometheus",
)
USERS = ("prometheus",)

#: Seconds between two readings of a target.
INTERVAL = 30

#: All that the alerts and the dashboard read, and nothing more: each collector costs.
_COLLECTORS = (
    *("cpu", "diskstats", "drm", "filesystem", "hwmon", "loadavg", "meminfo", "pressure", "textfile", "time", "uname"),
    "vmstat",
)


@dataclass(frozen=True)
class Parts:
    """What is this project's on a host; the rest is the owner's, or not there.

    + textfiles: the folder of node exporter's texts
    + alerts_to: whether there is an Alertmanager that our Prometheus sends alerts to
    """

    exporter: bool
    prometheus: bool
    alertmanager: bool
    textfiles: str = TEXTFILES
    alerts_to: bool = False

    @property
    def packages(self) -> list[str]:
        """Those to be installed."""
        chosen = {PROMETHEUS: self.prometheus, EXPORTER: self.exporter, ALERTMANAGER: self.alertmanager}
        return [name for name, ours in chosen.items() if ours]


def wanted(settings: HostSettings) -> bool:
    """Whether the host is to be watched."""
    return settings.watch != "none" and not settings.removed


def receives(settings: HostSettings) -> bool:
    """Whether somebody is to be told of alerts."""
    return bool(settings.watch_mail) or "webhook" in settings.watch_secrets


def parts(settings: HostSettings, found: WatchReport) -> Parts:
    """What is to be ours on a host where this was found."""
    box = settings.watch == "box"
    prometheus = box and PROMETHEUS not in found.theirs
    theirs = ALERTMANAGER in found.theirs
    alertmanager = prometheus and receives(settings) and not theirs
    exporter = EXPORTER not in found.theirs
    return Parts(
        exporter=exporter,
        prometheus=prometheus,
        alertmanager=alertmanager,
        textfiles=TEXTFILES if exporter else found.textfiles or TEXTFILES,
        alerts_to=alertmanager or (prometheus and theirs),
    )


def ports(settings: HostSettings) -> dict[str, int]:
    """The port of each package that the host could get."""
    if not wanted(settings):
        return {}
    found = {EXPORTER: NODE_PORT}
    if settings.watch == "box":
        found[PROMETHEUS] = settings.watch_port
        if receives(settings):
            found[ALERTMANAGER] = ALERTMANAGER_PORT
    return found


def certificates(settings: HostSettings) -> list[str]:
    """Whose end is watched."""
    if not gateway.wanted(settings):
        return []
    own = settings.gateway_certificate
    return [own] if own else [gateway.CERTIFICATE, gateway.AUTHORITY]


def targets(settings: HostSettings, name: str, gateway_at: str = "") -> list[dict[str, Any]]:
    """What Prometheus reads of a host, as its `file_sd_configs` take it: on the host itself, or through its gateway.

    ``gateway_at``: host and port of the gateway, as the reader reaches it.
    """
    way = {"__scheme__": "https"} if gateway_at else {}
    found = [
        {
            "targets": [gateway_at or f"{service.address}:{service.port}"],
            "labels": {
                "job": "engine",
                "host": name,
                "service": service.name,
                "__metrics_path__": gateway.prefix(settings, service) * bool(gateway_at) + service.engine.api.metrics,
                **way,
            },
        }
        for service in settings.resolved
    ]
    if settings.watch == "none":
        return found
    path = gateway.HOST_PATH if gateway_at else "/metrics"
    node = {"job": "node", "host": name, "__metrics_path__": path, **way}
    return [*found, {"targets": [gateway_at or f"127.0.0.1:{NODE_PORT}"], "labels": node}]


def prometheus(targets_file: str, alerts: str, alerts_to: bool, **scrape: Any) -> str:
    """Prometheus' configuration; ``scrape``: more of its only job."""
    document: dict[str, Any] = {
        "global": {"scrape_interval": f"{INTERVAL}s", "evaluation_interval": f"{INTERVAL}s"},
        "rule_files": [alerts],
        "scrape_configs": [{"job_name": "ojai", "file_sd_configs": [{"files": [targets_file]}], **scrape}],
    }
    if alerts_to:
        managers = {"static_configs": [{"targets": [f"127.0.0.1:{ALERTMANAGER_PORT}"]}]}
        document["alerting"] = {"alertmanagers": [managers]}
    return "# Made by ojai.\n" + yaml.safe_dump(document, sort_keys=False)


def alerts() -> str:
    """The alert rules, as they are shipped."""
    return (resources.FILES / "alerts.yml").read_text(encoding="utf-8")


def _alertmanager(settings: HostSettings) -> str:
    """Alertmanager's configuration. What is secret it reads from where systemd puts it."""
    receiver: dict[str, Any] = {"name": "owner"}
    if "webhook" in settings.watch_secrets:
        receiver["webhook_configs"] = [{"url_file": f"{_CREDENTIALS}/webhook", "send_resolved": True}]
    if mail := settings.watch_mail:
        user = {"auth_username": mail["user"], "auth_password_file": f"{_CREDENTIALS}/mail_password"}
        receiver["email_configs"] = [
            {
                "to": mail["to"],
                "from": mail["from"],
                "smarthost": mail["server"],
                "send_resolved": True,
                **(user if "user" in mail else {}),
            }
        ]
    route = {
        "receiver": "owner",
        "group_by": ["alertname", "host", "service"],
        "group_wait": "30s",
        "group_interval": "1m",
        "repeat_interval": "12h",
    }
    return "# Made by ojai.\n" + yaml.safe_dump({"route": route, "receivers": [receiver]}, sort_keys=False)


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in labels.items())
    return f"ojai_{name}{{{inside}}} {value:.10g}" if inside else f"ojai_{name} {value:.10g}"


def floor(service: ResolvedService, accelerator: str) -> float | None:
    """Where the band begins in which decoding is healthy, in tokens a second; None where that is not known."""
    if service.features.speculative:  # one pass over the weights yields several tokens
        return None
    speed = budgets.decoding(service.profile, accelerator)
    return speed.expected_tok_per_s[0] if speed else None


def _said(settings: HostSettings) -> Iterator[str]:
    yield "# Made by ojai: what the inventory says."
    yield _sample("info", {"version": ojai.__version__}, 1)
    for service in settings.resolved:
        about = {"service": service.name, "profile": service.profile.name, "model": service.model}
        yield _sample("service_info", {**about, "image": service.image}, 1)
        if slowest := floor(service, settings.accelerator):
            yield _sample("decode_floor_tokens_per_second", {"service": service.name}, slowest)
    taken = [family.taken for family in (settings.lock.packages if settings.lock else {}).values()]
    if taken:
        moment = datetime.strptime(max(taken), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        yield _sample("lock_timestamp_seconds", {}, moment.timestamp())


def verdict(checks: Mapping[str, int], drifted: bool | None, when: float) -> str:
    """What `ojai verify` leaves on a host: its checks by their outcome, and whether a deploy would change something."""
    lines = [_sample("verify_checks", {"outcome": outcome}, count) for outcome, count in checks.items()]
    lines.append(_sample("verify_timestamp_seconds", {}, when))
    if drifted is not None:
        lines.append(_sample("drift", {}, drifted))
    return "\n".join([*lines, ""])


def collector() -> str:
    """The program that tells node exporter what it does not know."""
    text = (resources.TEMPLATES / "watch/collect.sh").read_text(encoding="utf-8")
    return text.replace("%TUNING%", resources.text("tuning.sh"))


def _drop_in(*arguments: str, more: Iterable[str] = (), **environment: str) -> str:
    """A drop-in of a package's own unit, whose ExecStart has $ARGS."""
    variables = {"ARGS": " ".join(arguments), **environment}
    lines = [f'Environment="{name}={value}"' for name, value in variables.items()]
    return "\n".join(["# Made by ojai.", "[Service]", "EnvironmentFile=", *lines, *more, ""])


def files(settings: HostSettings, name: str, own: Parts) -> dict[str, str]:
    """Every file of ours on a host but the secrets, by path.

    The options of a program are written before its package is installed, which starts it on every address otherwise.
    """
    found = {
        SAID: "\n".join([*_said(settings), ""]),
        COLLECTOR: collector(),
        **{f"{UNITS}/{unit}": _unit(unit, settings, own) for unit in (UNIT, TIMER)},
    }
    if own.exporter:
        found[DROP_INS[EXPORTER]] = _drop_in(
            f"--web.listen-address=127.0.0.1:{NODE_PORT}",
            f"--collector.textfile.directory={TEXTFILES}",
            "--collector.disable-defaults",
            "--web.disable-exporter-metrics",
            *(f"--collector.{each}" for each in _COLLECTORS),
            "--collector.vmstat.fields=^oom_kill",
            GOGC="50",
        )
    if settings.watch == "box":
        found[ALERTS] = alerts()
        found[TARGETS] = json.dumps(targets(settings, name), indent=2) + "\n"
    if own.prometheus:
        found[CONFIGURATION] = prometheus(TARGETS, ALERTS, own.alerts_to)
        found[DROP_INS[PROMETHEUS]] = _drop_in(
            f"--config.file={CONFIGURATION}",
            f"--web.listen-address=127.0.0.1:{settings.watch_port}",
            "--storage.tsdb.path=/var/lib/prometheus/metrics2",
            f"--storage.tsdb.retention.time={settings.watch_retention}",
            f"--storage.tsdb.retention.size={settings.watch_retention_size}B",
            GOGC="40",
            GOMEMLIMIT="96MiB",
            GOMAXPROCS="2",
        )
    if own.alertmanager:
        found[RECEIVER] = _alertmanager(settings)
        found[DROP_INS[ALERTMANAGER]] = _drop_in(
            f"--config.file={RECEIVER}",
            f"--web.listen-address=127.0.0.1:{ALERTMANAGER_PORT}",
            "--cluster.listen-address=",
            "--storage.path=/var/lib/prometheus/alertmanager",
            more=(f"LoadCredential={each}:{SECRET_FOLDER}/{each}" for each in sorted(settings.watch_secrets)),
            GOGC="40",
            GOMEMLIMIT="32MiB",
            GOMAXPROCS="1",
        )
    return found


def every_file() -> list[str]:
    """The paths of all that :func:`files` could have written."""
    ours = (CONFIGURATION, ALERTS, TARGETS, RECEIVER, COLLECTOR, SAID)
    return [*DROP_INS.values(), *(f"{UNITS}/{unit}" for unit in (UNIT, TIMER)), *ours]


def _unit(name: str, settings: HostSettings, own: Parts) -> str:
    templates = Environment(
        loader=FileSystemLoader(resources.TEMPLATES / "watch"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return templates.get_template(f"{name}.j2").render(
        collector=COLLECTOR,
        folder=own.textfiles,
        arguments=[own.textfiles, *certificates(settings)],
        own=settings.gateway_certificate is not None,
    )


def inputs(package: str) -> list[str]:
    """The files that a program reads as it starts. Targets it reads anew by itself."""
    own = {PROMETHEUS: [CONFIGURATION, ALERTS], ALERTMANAGER: [RECEIVER]}
    return [DROP_INS[package], *own.get(package, ())]
