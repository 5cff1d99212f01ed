"""One host for each reason to refuse it, and two that are good."""

from ojai.fake import fake_host


def _host(name, *changes, more="", **data):
    name, answering = fake_host(name, data)
    report = "\n".join(answering["fake_responses"]["ojai-host-report"])
    for old, new in changes:
        if old not in report:
            raise LookupError(f"{old!r} is not in the report of ojai/fake.py")
        report = report.replace(old, new)
    answers = {**answering["fake_responses"], "ojai-host-report": f"{report}\n{more}".strip().splitlines()}
    return name, {**answering, "fake_responses": answers}


refused = [
    _host("good-00"),
    _host("carveout", ("68719476736", "17179869184"), services=[{"profile": "gemma-4-26b-a4b"}]),
    _host("debian", ("\tubuntu", "\tdebian"), ("24.04\n", "13\n"), ("Ubuntu 24.04.4 LTS", "Debian GNU/Linux 13")),
    _host("jammy", ("24.04\n", "22.04\n"), ("Ubuntu 24.04.4 LTS", "Ubuntu 22.04.5 LTS")),
    _host("arm", ("x86_64", "aarch64")),
    _host("nvidia", ("0x1002:0x150e", "0x10de:0x2684")),
    _host("strix-halo", ("0x1002:0x150e", "0x1002:0x1586")),
    _host("override", more="gfx\t110000"),
    _host("dkms", more="dkms\tloaded"),
    _host("trees", more="rocm_tree\t/opt/rocm-7.1.0\nrocm_tree\t/opt/rocm-7.2.0"),
    _host(
        "sources",
        more="apt_source\t/etc/apt/sources.list.d/rocm.list\t1\thttps://repo.radeon.com/rocm/apt/7.1\tnoble\tmain\tamd64\t/a.gpg\tAMD",
    ),
    _host("aiter", more="env_name\t/etc/ojai/vllm-gemma4.env VLLM_ROCM_USE_AITER_MHA"),
    _host("allocator", more="env_name\t/etc/ojai/vllm-gemma4.env PYTORCH_CUDA_ALLOC_CONF"),
    _host("firmware", more="firmware\tlinux-firmware 20251125.git3b128b60-0ubuntu1"),
    _host("disk", (" 900000000000 /", " 30000000000 /")),
    _host("sudo", ("user\troot", "user\tada")),
    _host("account", more="missing_user\tbob", gpu_users=["bob"]),
    _host("newer", more="schema\t1\nschema\t3"),
    _host("newer-removed", more="schema\t3", removed=True),
    ("@fake/silent", {**fake_host("silent", {})[1], "fake_responses": {}}),
    _host("good-01"),
]
