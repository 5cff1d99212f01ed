"""The deploy itself finds nothing to change: no managed file, package or service has been touched by hand."""

import pytest

from ojai.pyinfra_runs.drift import find_drift


def test_the_deploy_would_change_nothing(entry, deploy):
    found = find_drift(entry, deploy)
    if found:
        # pytest shortens what an assertion says; this has to name all.
        pytest.fail(found, pytrace=False)
