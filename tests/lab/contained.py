"""A container of the lab as a host with a service: what it lacks is stood in for, and the deploy is the whole one.

It has no kernel of its own and no GPU, so the roles and checks of these are left out (contained_deploy.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from ojai.lab import packages, state, upstreams
from tests.lab.backends import Container
from tests.lab.cutting import using
from tests.lab.machine import Lab

#: A container's kernel parameters are this machine's: read-only, and not to be touched. So a file takes the place of
#: the one that counts, and a program that of sysctl which says that it was set. Devices are /dev/null by other names.
KERNEL = r"""
systemctl unmask systemd-sysctl.service
test -e /usr/sbin/sysctl.real || mv /usr/sbin/sysctl /usr/sbin/sysctl.real
cat > /usr/sbin/sysctl <<'end'
#!/bin/sh
case "$*" in *-load*|*-write*|*-p*) exit 0;; esac
/usr/sbin/sysctl.real "$@" | sed 's/^\(.*overcommit_memory = \)0$/\11/'
end
chmod 755 /usr/sbin/sysctl
groupadd --force --system render
if ! mountpoint -q /proc/sys/vm/overcommit_memory; then
  cat /proc/sys/vm/overcommit_memory > /run/overcommit_memory
  mount --bind /run/overcommit_memory /proc/sys/vm/overcommit_memory
fi
install -d /dev/dri
for device in /dev/kfd /dev/dri/renderD128; do
  [ -e $device ] || { mknod $device c 1 3 && chgrp render $device && chmod 0660 $device; }
done
"""

#: What differs from a host that somebody set up by hand.
DATA: dict[str, object] = {"gpu_users": ["ojai"]}


@dataclass(frozen=True)
class Serving(Container):
    """A container that has a service. Verified by the checks of services too."""

    marks: str = "service or not silicon"

    def renew(self) -> None:
        super().renew()
        packages.ensure({name: packages.PROGRAMS[name] for name in ("umoci", "skopeo")})
        with using(self.lab), state.locked():
            state.write(upstreams.push_images(state.read()))
        self.guest.root(KERNEL)

    def with_data(self, **data: object) -> Serving:
        """The same host with other data in its inventory."""
        return replace(self, lab=replace(self.lab, env={**self.lab.env, "OJAI_CONTAINED": json.dumps(DATA | data)}))

    def stop(self) -> None:
        # Or the container waits for them as it halts.
        self.lab.ojai("lab", "ssh", "lab", "--", "sudo sh -c 'docker kill $(docker ps -q) >/dev/null 2>&1'")
        super().stop()


def serving(folder: Path, engine: str) -> Serving:
    """A container with a service, whose lab is in ``folder``, and whose Docker is ``engine``."""
    lab = Lab(
        folder, "tests/lab/inventories/contained.py", "tests/lab/contained_deploy.py", {"OJAI_LAB_ENGINE": engine}
    )
    return Serving(lab).with_data()
