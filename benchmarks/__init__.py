"""ojai beside Ansible, Ansible with Mitogen, stock pyinfra and the floor: the same work, in one run. `make bench`."""
