"""One gateway and one engine for the tests of a module; each test finds the engine's notes empty."""

from __future__ import annotations

import pytest

from tests.gateway import engine as engines
from tests.gateway import figures, nginx


@pytest.fixture(scope="module")
def engine():
    with engines.recording() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(engine, tmp_path_factory):
    with nginx.running(tmp_path_factory.mktemp("gateway"), engine.port, gateway_requests=10_000) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_noted(request):
    if "engine" in request.fixturenames:
        request.getfixturevalue("engine").take()


def pytest_sessionfinish(exitstatus):
    """What the tests of abuse have counted, if all went well."""
    if exitstatus == 0 and figures.counted:
        figures.record_abuse()
