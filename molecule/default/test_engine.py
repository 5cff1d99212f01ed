"""Docker Engine does what it is for: it starts a container."""

PROBE = "ojai-molecule-probe"


def test_engine_starts_a_container_and_keeps_its_output(host):
    # ldconfig is linked statically: an image of one file, so nothing has to be pulled.
    host.run_expect([0], f"tar -C / -c usr/sbin/ldconfig | docker import - {PROBE}")
    try:
        done = host.run(f"docker run --name {PROBE} {PROBE} /usr/sbin/ldconfig --version")
        assert done.rc == 0, done.stderr
        assert done.stdout.startswith("ldconfig (")
        assert host.run(f"docker logs {PROBE}").stdout == done.stdout
    finally:
        host.run(f"docker rm -f {PROBE}; docker image rm {PROBE}")
