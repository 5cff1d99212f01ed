"""The inference servers: a systemd unit each, wrapping the guides' canonical ``docker run``."""

from functools import partial

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pyinfra import host
from pyinfra.api.deploy import deploy

from ojai import gateway, resources, systemd
from ojai.connection.recap import note_next
from ojai.engines import ResolvedService
from ojai.operations import adoption, docker, files, service, vllm
from ojai.operations import gateway as gateway_operations
from ojai.operations import release as releases
from ojai.paths import SECRETS
from ojai.releases import serving_of
from ojai.settings import HostSettings

ENV_HEADER = """\
# Secrets and local variables of this service: NAME=value lines, read by docker when it starts.
# Yours to edit; the deploy keeps what is here and sees that only root can read it.
"""


def render_unit(service: ResolvedService) -> str:
    """The unit file's text. ExecStart is quoted from the argument list, so no argument can become a comment."""
    templates = Environment(
        loader=FileSystemLoader(resources.TEMPLATES / "engine"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    exec_start = systemd.command_line(["/usr/bin/docker", *service.command.docker_argv[1:]])
    return templates.get_template("engine.service.j2").render(service=service, exec_start=exec_start)


def secret_variables(
    settings: HostSettings, server: ResolvedService
) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """A service's secrets: those of its environment file, and those that are files. None is one that is not asked for.

    What is a file is taken out of the environment file: from there it would be in ``docker inspect``.
    """
    found = {name: source.read() for name, source in settings.secrets_of(server.name).items()}
    texts = {name: found.pop(name) for name in server.secret_files}
    return {**found, **dict.fromkeys(texts, "")}, texts


@deploy("vLLM")
def apply(*, settings: HostSettings) -> None:
    """Pull images, write secrets and units, start or restart each service once, wait, save the healthy release.

    Until everything is configured, nothing that serves is touched. When a later step fails, the release that was
    healthy before is restored.
    """
    units = [server.unit for server in settings.resolved]
    release = [serving_of(server) for server in settings.resolved]
    unchanged, back = (
        partial(releases.report_unchanged, services=release),
        partial(releases.roll_back, services=release),
    )
    for server in host.loop(settings.resolved):
        docker.image(
            name=f"{server.name}: pull the image",
            reference=server.image,
            login=settings.login(server.image),
            environment=settings.proxies,
            local_only=settings.local_only,
            on_failure=unchanged,
        )
    for server in host.loop(settings.resolved):
        variables, texts = secret_variables(settings, server)
        files.secret_file(
            name=f"{server.name}: write the environment file",
            path=server.env_file,
            values=variables,
            header=ENV_HEADER,
        )
        for name in host.loop(sorted(texts)):
            files.secret_text(
                name=f"{server.name}: write the secret {name}",
                path=f"{server.secrets_folder}/{name}",
                text=texts[name],
            )
        vllm.unit(name=f"{server.name}: write the systemd unit", service=server, render_unit=render_unit)
    vllm.stopped(name="Stop services no longer configured", keep=units)
    if settings.adopt:
        adoption.stopped(name="Stop the adopted server", on_failure=back)
    for server in host.loop(settings.resolved):
        service.running(
            name=f"{server.name}: start the service",
            unit=server.unit,
            inputs=[server.unit_file, server.env_file, *([server.key_file] if server.key_file else [])],
            container=server.name,
            image=server.image,
            argv=partial(vllm.argv, server),
            on_failure=back,
        )
        service.ready(
            name=f"{server.name}: wait until it is healthy",
            unit=server.unit,
            port=server.port,
            model=server.command.served_model_name,
            timeout=server.start_timeout,
            address=server.address,
            api=server.engine.api,
            on_failure=back,
        )
    if gateway.wanted(settings):
        gateway_operations.answers(
            name="Wait until the gateway reaches it",
            address=gateway.local_address(settings),
            port=settings.gateway_port,
            paths=gateway.health_paths(settings),
            on_failure=back,
        )
    releases.snapshot(name="Save the healthy release for rollback", services=release)
    vllm.removed(name="Remove services no longer configured", keep=units)
    kept = [f"{server.secrets_folder}/{name}" for server in settings.resolved for name in server.secret_files]
    vllm.secrets_removed(name="Remove secrets no longer configured", keep=kept)
    if units:
        note_next({"open": "says how to chat", "status": "how it is", "doctor": "what is wrong"})


@deploy("vLLM: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove units, environment files, saved releases and the images that were pulled for them."""
    vllm.removed(name="Remove the services", keep=[])
    releases.releases_removed(name="Remove saved releases")
    docker.images_removed(name="Remove pulled images")
    files.absent(name="Remove environment files", paths=[SECRETS], recursive=True)
