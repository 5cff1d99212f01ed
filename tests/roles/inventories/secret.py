"""A host whose secrets come from the three places that there are; what is in them, the tests put there."""

import runpy
from pathlib import Path

_data = runpy.run_path(str(Path(__file__).with_name("serving.py")))["serving"][0][1]

secret = [
    (
        "@fake/secret",
        {
            **_data,
            "service_secrets": {
                "HF_TOKEN": {"command": ["cat", "planted/token"]},
                "S3_SECRET_KEY": {"env": "PLANTED_OTHER"},
            },
            "registry_credentials": {"docker.io": {"file": "planted/password"}},
            "gateway_keys": ["default", "laptop"],
            "gateway_key_sources": {"laptop": {"file": "planted/key"}},
        },
    )
]
