"""Hosts on which a whole run can be executed on air: the kernel is right, and the server answers.

One of them has the token of the tests in its environment file already.
"""

import hashlib

from ojai.fake import fake_host

_bare = fake_host("serving", {"gpu_users": ["ada"]})[1]
_answers = {
    **_bare["fake_responses"],
    "/boot/vmlinuz-*": ["6.17.0-1012-oem", "6.17.0-1012-oem"],
    "/var/lib/ojai/weights": [f"models--google--gemma-4-E4B-it@main\t{'0' * 40}\tyes\t7\t15200000000"],
    "8443/health": ["yes"],
    "/v1/models": ["health=200", 'models={"data": [{"id": "google/gemma-4-E4B-it"}]} 200'],
}

_sum = hashlib.sha256(b"HF_TOKEN=hf_SENTINEL_of_the_tests\n").hexdigest()
_has_token = {"then stat -c '%U %G %a' /etc/ojai/vllm-gemma4.env": ["root root 600", f"HF_TOKEN {_sum}  -"]}

serving = [
    (name, {**_bare, "fake_responses": {**answers, **_answers}})
    for name, answers in (("@fake/serving", {}), ("@fake/has-token", _has_token))
]
