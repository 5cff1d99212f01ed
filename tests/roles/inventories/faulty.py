"""Two hosts with faulty settings, and one without."""

_HALF = {"port": 1, "gpu_memory_utilization": 0.4}

faulty = [
    ("@fake/one", {"services": [{"profil": "gemma-4-e4b"}], "kernel_reboot": "sometimes"}),
    ("@fake/good", {}),
    ("@fake/two", {"gpu_user": ["ada"], "services": [{**_HALF, "name": "a"}, {**_HALF, "name": "b"}]}),
]
