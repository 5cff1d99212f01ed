"""Open WebUI: a chat page for the models of the same host, in a container of its own.

The page is at http://HOST:3000. The first account that registers there is the administrator.

Settings, as `vars` of a host, a group or all (they are yours: ojai does not read them):
    open_webui_port     port of the page
    open_webui_image    its container image

Not tried with the real image: the tests look at what the deploy would do. See https://docs.openwebui.com.
"""

from pathlib import Path

from jinja2 import StrictUndefined, Template
from pyinfra import host
from pyinfra.api.deploy import deploy
from pyinfra.operations import systemd

from ojai.operations import files, service
from ojai.settings.inventory import settings_of

UNIT = "open-webui.service"
PATH = f"/etc/systemd/system/{UNIT}"
TEMPLATE = Path(__file__).resolve().parents[1] / "templates" / f"{UNIT}.j2"
DEFAULTS = {"open_webui_port": 3000, "open_webui_image": "ghcr.io/open-webui/open-webui:v0.11.2"}


@deploy("Open WebUI")
def apply() -> None:
    """The unit is as the template says, enabled, and runs."""
    settings = {**DEFAULTS, **host.data.get("vars", {})}
    template = Template(TEMPLATE.read_text(), undefined=StrictUndefined, keep_trailing_newline=True)
    text = template.render(
        port=settings["open_webui_port"],
        image=settings["open_webui_image"],
        models=[f"http://127.0.0.1:{model.port}/v1" for model in settings_of(host).services],
    )
    files.text_file(name="Write the systemd unit", path=PATH, text=text)
    # Restarted when it runs from an older unit than the one on disk, also after a run that was cut off.
    service.running(name="Run the service", unit=UNIT, inputs=[PATH])


@deploy("Open WebUI: removal")
def remove() -> None:
    """The service and its unit are gone. The volume with accounts and chats stays: `docker volume rm open-webui`."""
    systemd.service(name="Stop and disable the service", service=UNIT, running=False, enabled=False)
    unit = files.absent(name="Remove the systemd unit", paths=[PATH])
    systemd.daemon_reload(name="Reload systemd", _if=unit.did_change)
