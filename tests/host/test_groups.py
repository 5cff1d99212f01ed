"""The named users can use the GPU, and nobody else can."""

import shlex

import pytest


@pytest.mark.silicon
def test_named_users_can_open_the_gpu_in_a_fresh_login(mini):
    for user in mini.settings.gpu_users:
        for device in ("/dev/kfd", *mini.text("ls /dev/dri/renderD*").split()):
            done = mini.as_user(user, f"exec 3<>{device}")
            assert done.rc == 0, f"{user} cannot open {device}: {done.stderr.strip()}"


def test_named_users_are_in_both_groups(mini):
    for user in mini.settings.gpu_users:
        assert {"video", "render"} <= set(mini.text(f"id -nG {shlex.quote(user)}").split())


@pytest.mark.silicon
def test_device_belongs_to_the_group_and_is_closed_to_others(mini):
    device = mini.host.file("/dev/kfd")
    assert (device.user, device.group) == ("root", "render")
    done = mini.run("setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'exec 3<>/dev/kfd'")
    assert done.rc != 0, "an account outside the group can open /dev/kfd"
