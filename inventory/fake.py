"""No machine at all: what a bare host of the guides would answer, so that a dry run checks everything in a second.

pyinfra --dry inventory/fake.py deploy.py
"""

REPORT = """\
ojai-host-report\t1
user\troot
hostname\tmini
machine\tx86_64
kernel\t6.8.0-90-generic
os_id\tubuntu
os_version\t24.04
os_name\tUbuntu 24.04.4 LTS
pci\t0000:c5:00.0 0x1002:0x150e
mem_info_vram_total\t68719476736
mem_info_gtt_total\t33285996544
MemTotal\t65011712
SwapTotal\t8388608
CommitLimit\t40894464
overcommit\t0
disk\t/var/lib/docker 900000000000 /
disk\t/srv/ojai 900000000000 /"""

ANSWERS = {
    "ojai-host-report": REPORT.splitlines(),
    "/boot/vmlinuz-*": ["6.8.0-90-generic", "6.8.0-90-generic"],
}
INSTANT = {"fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": ANSWERS}

fake = [
    ("@fake/mini-00", {**INSTANT, "gpu_users": ["ada"]}),
    ("@fake/mini-01", {**INSTANT, "services": [{"profile": "gemma-4-26b-a4b"}]}),
    ("@fake/mini-02", {**INSTANT, "docker_source": "docker", "rocm_migraphx": True, "kernel_reboot": "never"}),
    ("@fake/mini-03", {**INSTANT, "removed": True}),
]
