"""A headless host stays awake and shows no desktop; on any other, sleep and desktop are the owner's business."""

import pytest

SLEEP = ["sleep.target", "suspend.target", "hibernate.target", "hybrid-sleep.target", "suspend-then-hibernate.target"]


@pytest.fixture(autouse=True)
def headless(mini):
    if not mini.settings.headless:
        pytest.skip("headless is false")


def test_it_cannot_sleep(mini):
    for unit in SLEEP:
        assert mini.run(f"systemctl is-enabled {unit}").stdout.strip() == "masked", unit
        assert mini.text(f"systemctl show {unit} -p LoadState --value") == "masked", f"{unit}, as systemd has loaded it"


def test_it_boots_without_a_desktop(mini):
    assert mini.text("systemctl get-default") == "multi-user.target"


def test_no_desktop_runs(mini):
    assert mini.run("systemctl is-active display-manager.service").stdout.strip() in ("inactive", "failed")
