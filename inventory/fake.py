"""No machine at all: each host answers as a bare box of the guides would, so a dry run checks everything in a second.

pyinfra --dry inventory/fake.py deploy.py
"""

from ojai.fake import fake_host

fake = [
    fake_host("mini-00", {"gpu_users": ["ada"]}),
    fake_host("mini-01", {"services": [{"profile": "gemma-4-26b-a4b"}]}),
    fake_host(
        "mini-02",
        {
            "docker_source": "docker",
            "docker_registry_mirrors": ["https://registry.example.net"],
            "rocm_migraphx": True,
            "kernel_reboot": "never",
            "headless": True,
        },
    ),
    fake_host("mini-03", {"removed": True}),
]
