"""Hosts with an engine that ojai did not install: as Docker's own page sets it up, and Microsoft's, which is down."""

from ojai.fake import fake_host

_DATA = {"docker_registry_mirrors": ["https://registry.example.net"], "gpu_users": ["ada"]}


def _host(name, package, client, active, **data):
    found = [
        f"program\tdocker /usr/bin/docker /usr/bin/docker {client}",
        f"program\tdockerd /usr/bin/dockerd /usr/bin/dockerd {package}",
        f"program\tclient /usr/bin/docker /usr/bin/docker {client}",
        f"engine\t{package} 29.1.0",
        "noted\trocminfo",
    ]
    host, data = fake_host(name, {**_DATA, **data})
    answers = data["fake_responses"]
    units = [f"docker_unit\tdocker.service loaded {active} enabled"]
    answers["ojai-host-report"] = [*answers["ojai-host-report"], *found, *units]
    # The same question alone.
    answers["for name in docker dockerd"] = found
    answers["systemctl show"] = [f"ActiveState={active}", "SubState=running", "UnitFileState=disabled"]
    answers["docker info"] = ["there", '"29.1.0" ["https://registry.example.net/"]']
    return host, data


owners = [
    _host("docker-ce", "docker-ce", "docker-ce-cli", "active"),
    _host("moby", "moby-engine", "moby-cli", "inactive", docker_source="docker"),
]
