"""Who reaches the services, and who does not: the gateway with keys and TLS, or the host alone, or everybody."""

import ipaddress
import json
import shlex
import time

import pytest

FOLDER = "/etc/ojai/gateway"


@pytest.fixture
def guarded(mini, services):
    """The host, if it has a gateway."""
    if mini.settings.exposure != "gateway":
        pytest.skip(f"exposure is {mini.settings.exposure}")
    return mini


def _address(settings):
    address = ipaddress.ip_address(settings.gateway_address)
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{address}]" if address.version == 6 else str(address)


def _ask(mini, path, key=None, trust="-k", method="GET"):
    """The status and the body. The key is read on the host, and is on no command line there."""
    url = shlex.quote(f"https://{_address(mini.settings)}:{mini.settings.gateway_port}{path}")
    header = f"{{ printf 'Authorization: Bearer '; cat {FOLDER}/keys/{key}.key; }} | " if key else "printf '' | "
    done = mini.run(
        f"{header}curl -q --noproxy '*' -s -m 10 {trust} -X {method} -H @- -w '\\n%{{http_code}}' {url}"
    ).stdout
    body, _, status = done.rpartition("\n")
    return int(status or 0), body


def _listeners(mini):
    """(address, port) of every listening socket, and the words of who has it."""
    for line in mini.text("ss -ltnpH").splitlines():
        words = line.split()
        address, _, port = words[3].rpartition(":")
        yield address.strip("[]").partition("%")[0], int(port), words[-1]


def _loopback(address):
    return address not in ("*", "0.0.0.0", "::") and ipaddress.ip_address(address).is_loopback


def test_services_listen_where_they_should(mini, services):
    """On the host alone; with `exposure: open` on the address that the inventory gives."""
    for served in services:
        found = {address for address, port, _ in _listeners(mini) if port == served.service.port}
        assert found, f"nothing listens on port {served.service.port}"
        if mini.settings.exposure != "open":
            assert all(map(_loopback, found)), f"others reach {served.service.name} on {', '.join(found)}"
        elif not ipaddress.ip_address(served.service.host).is_loopback:
            assert not any(map(_loopback, found)), f"nobody else reaches {served.service.name}"


def test_nothing_of_the_engine_listens_for_others(mini, services):
    """Neither its server nor what torch opens between its processes."""
    if mini.settings.exposure == "open":
        pytest.skip("the services are open")
    for served in services:
        top = mini.text(f"timeout 20 docker top {shlex.quote(served.service.name)} -eo pid").split()[1:]
        for address, port, words in _listeners(mini):
            mine = any(f"pid={pid}," in words for pid in top)
            assert not mine or _loopback(address), f"{served.service.name} listens on {address}:{port}"


def test_gateway_runs_at_boot_and_nothing_overrides_it(guarded):
    for unit, sub in (("ojai-gateway.service", "running"), ("ojai-gateway-renew.timer", "waiting")):
        shown = guarded.text(
            f"systemctl show {unit} -p ActiveState,SubState,UnitFileState,NeedDaemonReload,DropInPaths"
        )
        values = dict(line.split("=", 1) for line in shown.splitlines())
        assert (values["ActiveState"], values["UnitFileState"]) == ("active", "enabled"), f"{unit}: {values}"
        assert values["SubState"] == sub
        assert values["NeedDaemonReload"] == "no", f"{unit} was edited and not reloaded"
        assert not values["DropInPaths"], f"{unit} is changed by {values['DropInPaths']}"


def test_health_answers_without_a_key_and_nothing_else_does(guarded):
    assert _ask(guarded, "/health")[0] == 200
    for method, path in (
        ("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/invocations"), ("GET", "/metrics"),
        ("GET", "/docs"), ("GET", "/version"), ("POST", "/tokenize"), ("GET", "/"),
    ):  # fmt: skip
        assert _ask(guarded, path, method=method)[0] == 401, f"{method} {path} is answered without a key"


def test_with_a_key_only_the_list_is_offered(guarded, services):
    name = _a_key(guarded)
    status, body = _ask(guarded, "/v1/models", key=name)
    assert status == 200, f"the key {name} is answered with {status}"
    assert [model["id"] for model in json.loads(body)["data"]] == [services[0].model]
    for method, path in (
        ("POST", "/invocations"), ("GET", "/docs"), ("GET", "/version"), ("GET", "/load"), ("POST", "/tokenize"),
    ):  # fmt: skip
        assert _ask(guarded, path, key=name, method=method)[0] in (400, 404), f"{method} {path} is offered"


def _a_key(mini):
    for name in mini.settings.gateway_keys:
        if mini.run(f"test -s {FOLDER}/keys/{name}.key").rc == 0:
            return name
    pytest.skip("no key is on the host any more: each was deleted after it was noted")


def test_keys_are_the_inventory_s_and_closed(guarded):
    files = guarded.text(f"cd {FOLDER}/keys && stat -c '%n %U:%a' . *").splitlines()
    rights = dict(line.split(" ") for line in files)
    assert rights.pop(".") == "root:700"
    maps = {name.removesuffix(".map") for name in rights if name.endswith(".map")}
    assert {name for name in maps if not name.endswith(".old")} == set(guarded.settings.gateway_keys)
    for name in (name for name in maps if name.endswith(".old")):
        end = guarded.text(f"sed -n 's/.*@\\([0-9]*\\)\";$/\\1/p' {FOLDER}/keys/{name}.map")
        assert int(end) <= time.time() + guarded.settings.gateway_key_overlap * 3600 + 300, "the old key stays too long"
    assert set(rights.values()) == {"root:600"}, f"others can read a key: {rights}"
    assert {name.rpartition(".")[2] for name in rights} <= {"map", "key"}
    for name in guarded.settings.gateway_keys:
        line = guarded.text(f"grep -v '^#' {FOLDER}/keys/{name}.map")
        assert line.split('"')[3] == name
        if f"{name}.key" in rights:
            total = guarded.text(f"tr -d '\\n' < {FOLDER}/keys/{name}.key | sha256sum").split()[0]
            assert line.split('"')[1] == total, f"another key than {name}.key is valid"


def test_nginx_has_read_what_is_on_disk(guarded):
    read = f"! -path {FOLDER} ! -path {FOLDER}/renew ! -name '*.key'"
    newer = guarded.text(f"find {FOLDER} -newer /run/ojai-gateway/loaded {read}")
    assert newer == "", f"changed since it was read: {newer}"


def test_the_certificate_is_trusted_and_lasts(guarded):
    settings = guarded.settings
    if settings.gateway_certificate:
        file = settings.gateway_certificate
    else:
        file = f"{FOLDER}/server.crt"
        assert _ask(guarded, "/health", trust=f"--cacert {FOLDER}/ca.crt")[0] == 200, "its authority is not trusted"
        rights = guarded.text(f"stat -c %U:%a {FOLDER}/ca.key {FOLDER}/server.key").split()
        assert rights == ["root:600", "root:600"], "others can read a private key"
    done = guarded.run(f"openssl x509 -in {shlex.quote(file)} -noout -checkend {14 * 86400} -enddate")
    assert done.rc == 0, f"the certificate ends within two weeks: {done.stdout.strip()}"


def test_nginx_of_the_package_does_not_run(guarded):
    """Where ojai installed it. An owner's nginx is its owner's."""
    if guarded.run("grep -qsx nginx /var/lib/ojai/added/packages").rc != 0:
        pytest.skip("nginx is the owner's")
    assert guarded.run("systemctl is-active --quiet nginx.service").rc != 0, "nginx's own page is served on port 80"
