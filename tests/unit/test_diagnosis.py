"""Lines as the engine, Docker and Hugging Face write them, and the cause that must be named."""

from __future__ import annotations

import re

import pytest

from ojai.diagnosis import catalogue, explain

#: a line of the journal -> words of the cause that it must be explained by
LINES = {
    "OSError: [Errno 99] error while attempting to bind on address ('192.0.2.7', 8000)": "no network address",
    "huggingface_hub.errors.HfHubHTTPError: 504 Server Error: Gateway Time-out for url": "itself answers with an error",
    "RuntimeError: unable to mmap 46450000000 bytes from file </root/.cache/…/model-00001.safetensors>: Cannot "
    "allocate memory (12)": "refused the private mapping",
    "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.27 GiB. GPU 0 has a total capacity of 16.00 GiB": (
        "do not fit the GPU"
    ),
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`": "nothing of",
    "ValueError: To serve at least one request with the models's max seq len (131072), (2.50 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (1.20 GiB).": "does not hold one sequence",
    "RuntimeError: ROCm AITER does not support gfx1150": "AITER",
    "vllm: error: unrecognized arguments: --speculative-model google/gemma-4-e2b": "replaced by --speculative-config",
    "vllm: error: unrecognized arguments: --disable-log-requests": "no longer knows --disable-log-requests",
    "vllm: error: unrecognized arguments: --no-such-flag": "does not know a flag",
    'KeyError: "invalid tool call parser: gemma (chose from { gemma4,hermes })"': "no tool-call parser",
    "OSError: [Errno 98] Address already in use": "another program has the port",
    "RuntimeError: No HIP GPUs are available": "sees no GPU",
    'docker: Error response from daemon: error gathering device information while adding custom device "/dev/kfd": no '
    "such file or directory": "no such GPU device",
    "docker: 'docker run' requires at least 1 argument": "cut the docker command short",
    "docker: Error response from daemon: No such image: vllm/vllm-openai-rocm:v0.20.1": "not on the host",
    'docker: Error response from daemon: failed to create task: exec: "vllm-x": executable file not found in $PATH: '
    "unknown.": "not contain the program",
    "docker: Error response from daemon: Unable to find group render: no matching entries in group file": (
        "--group-add names"
    ),
    "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-6)": "refused the download",
    "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-6)\n\nRepository Not Found "
    "for url: https://huggingface.co/api/models/google/gemma-4-e4b-itt.": "no model of that name",
    "huggingface_hub.errors.RevisionNotFoundError: 404 Client Error. (Request ID: Root=1-6)\n\nRevision Not Found for "
    "url: https://huggingface.co/google/gemma-4-E4B-it/resolve/v9/config.json.": "not the revision",
    "huggingface_hub.errors.HfHubHTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/google/"
    "gemma-4-E4B-it/resolve/main/config.json (Request ID: Root=1-6)\n\nInvalid credentials in Authorization header": (
        "refuses the token"
    ),
    "OSError: [Errno 28] No space left on device": "disk is full",
    # From public reports (first-contact, case 34); the source of each is in the catalogue.
    "(EngineCore_DP0 pid=17374) ERROR 09-28 15:47:24 [core.py:718] ValueError: Free memory on device (3.22/4.0 GiB) on "
    "startup is less than desired GPU memory utilization (0.9, 3.6 GiB). Decrease GPU memory utilization or reduce GPU "
    "memory used by other processes.": "less of the GPU's memory is free",
    "Unable to open /dev/kfd read-write: No such file or directory": "no such GPU device",
    "RuntimeError: HIP error: invalid device function": "no code for this GPU's instruction set",
    "Memory access fault by GPU node-1 (Agent handle: 0x1f829860) on address 0x7a8a4be00000. Reason: Page not present "
    "or supervisor privilege.": "memory that is not mapped",
    "docker: Error response from daemon: cannot share the host's network namespace when user namespaces are enabled.": (
        "maps container users"
    ),
    "docker: poorly formatted environment: variable 'ConnectionStrings__Default ' contains whitespaces.": (
        "cannot read a line"
    ),
    "RuntimeError: Failed to infer device type": "found no GPU of a kind",
    "pydantic_core.ValidationError: The checkpoint you are trying to load has model type 'gemma4' but Transformers "
    "does not recognize this architecture.": "does not know the model's architecture",
    "ValueError: Model architectures ['Gemma2ForSequenceClassification'] are not supported for now.": (
        "does not know the model's architecture"
    ),
    "requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for URL: https://huggingface.co/meta-llama/"
    "Meta-Llama-3-8B/resolve/main/config.json": "limit of requests",
    "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded "
    'with url: /api/models/gpt2 (Caused by NameResolutionError("<urllib3.connection.HTTPSConnection object at 0x7fc5>: '
    "Failed to resolve 'huggingface.co' ([Errno -3] Temporary failure in name resolution)\"))": "by its name",
    "urllib3.exceptions.MaxRetryError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with "
    "url: /meta-llama/Llama-3.2-1B-Instruct/resolve/main/config.json (Caused by SSLError(SSLCertVerificationError(1, "
    "'[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate "
    "(_ssl.c:1007)')))": "a proxy on the way",
    "docker: Error response from daemon: AppArmor enabled on system but the docker-default profile could not be loaded"
    ": running `/sbin/apparmor_parser apparmor_parser -Kr /var/lib/docker/tmp/docker-default570365455` failed with "
    "output: AppArmor parser error": "AppArmor profile",
    # Docker 20.10 on a host without the parser (seen on the lab's guest of bookworm).
    "docker: Error response from daemon: AppArmor enabled on system but the docker-default profile could not be "
    "loaded: running `apparmor_parser apparmor_parser --version` failed with output: \nerror: exec: "
    '"apparmor_parser": executable file not found in $PATH.': "AppArmor profile",
    "runc create failed: unable to start container process: error during container init: unable to apply apparmor "
    "profile: apparmor failed to apply profile: write /proc/self/attr/apparmor/exec: no such file or directory": (
        "AppArmor profile"
    ),
    "docker: Error response from daemon: unknown log opt 'max-size' for journald log driver.": "do not belong",
    "RuntimeError: HIP error: the operation cannot be performed in the present state": "refused a launch",
    "UserWarning: expandable_segments not supported on this platform": "HIP ignores",
}
#: a line of apt, dpkg or Docker -> words of the cause that it must be explained by
INSTALLING = {
    "E: dpkg was interrupted, you must manually run 'sudo dpkg --configure -a' to correct the problem.": "was cut off",
    "dpkg: error processing package linux-image-6.17.0-1028-oem (--configure):": "its own script failed",
    "E: Malformed entry 1 in list file /etc/apt/sources.list.d/a.list (Component)": "one of its own files",
    "E: Failed to fetch http://a.example/pool/a.deb  404  Not Found [IP: 192.0.2.1 80]": "no longer where",
    "E: Failed to fetch http://a.example/pool/a.deb  403  Forbidden [IP: 192.0.2.1 80]": "in place of the archive",
    "E: Repository 'http://a.example noble InRelease' changed its 'Label' value": "calls itself otherwise",
    "http: server gave HTTP response to HTTPS client": "speaks http where Docker asks by https",
    "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)": "needs root",
    "E: Release file for http://a.example/debian/dists/trixie-updates/InRelease is not valid yet (invalid for another "
    "2d 3h 1min 2s). Updates for this repository will not be applied.": "clock is behind",
    "E: Release file for http://a.example/dists/noble/InRelease is expired (invalid since 1d 2h 3min 4s).": (
        "clock is ahead"
    ),
    'Error response from daemon: Get "https://registry-1.docker.io/v2/": tls: failed to verify certificate: x509: '
    "certificate has expired or is not yet valid: current time 2031-01-01T00:00:00Z is after 2027": "clock is off",
    "E: You don't have enough free space in /var/cache/apt/archives/.": "disk is full",
    "failed to register layer: write /usr/lib/x.so: no space left on device": "disk is full",
    "E: The repository 'http://a.example/rocm/apt/7.2 noble InRelease' is not signed.": "not signed by a key",
    # First contact, cases 1, 9 and 30.
    "E: Conflicting values set for option Signed-By regarding source https://download.docker.com/linux/ubuntu/ noble: "
    "/etc/apt/keyrings/docker.asc != /etc/apt/keyrings/docker.gpg\nE: The list of sources could not be read.": (
        "with different keys"
    ),
    "W: GPG error: https://repo.radeon.com/rocm/apt/7.2 noble InRelease: The following signatures were invalid: "
    "EXPKEYSIG 9386B48A1A693C5C James Adrian Edwards (ROCm Release Manager)": "has expired",
    "the key at https://repo.radeon.com/rocm/rocm.gpg.key has expired, or was revoked: found CA8B": "has expired",
    "E: The repository 'https://ppa.example.net/gone/ubuntu noble Release' does not have a Release file.": (
        "it has moved, or has ended"
    ),
    "W: GPG error: https://dl.example.com/browser/deb stable InRelease: The following signatures couldn't be verified "
    "because the public key is not available: NO_PUBKEY 32EE5355A6BC6E42": "not signed by a key that apt trusts",
    "E: Held packages were changed and -y was used without --allow-change-held-packages.": "is on hold",
    "E: Failed to fetch http://a.example/P.gz  Hash Sum mismatch": "being refreshed",
    "Unable to find image 'vllm/vllm-openai-rocm:v0.20.1' locally": "get to the end of pulling it",
    "docker: Error response from daemon: Requested CPUs are not available - requested 0-63, available: 0-23": (
        "container could not be made"
    ),
    "Error response from daemon: toomanyrequests: You have reached your pull rate limit.": "limit of pulls",
    "Error response from daemon: manifest for vllm/vllm-openai-rocm:v9 not found: manifest unknown: x": "no image of",
    "Error response from daemon: pull access denied for a/b, repository does not exist or may require 'docker login'": (
        "for the public"
    ),
    'Error response from daemon: Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on '
    "10.0.2.3:53: no such host": "registry does not answer",
    'Error response from daemon: Get "https://registry-1.docker.io/v2/": net/http: request canceled while waiting for '
    "connection (Client.Timeout exceeded while awaiting headers)": "registry does not answer",
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?": (
        "daemon does not run"
    ),
    "Err:1 http://a.example noble InRelease\n  Temporary failure resolving 'a.example'": "by its name",
    "E: Failed to fetch http://10.0.2.2:1/dists/noble/InRelease  Could not connect to 10.0.2.2:1 (10.0.2.2). - connect "
    "(111: Connection refused)": "mirror does not answer",
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (unattended-upgr)": "another apt",
    "E: Packages need to be removed but remove is disabled.": "excludes something",
    " docker.io : Depends: containerd but it is not installable\nE: Unable to correct problems, you have held broken "
    "packages.": "conflict with",
    "E: Unable to locate package rocm-core": "offers what is to be installed",
    # From public reports (first-contact, case 34).
    "  Certificate verification failed: The certificate is NOT trusted. The certificate issuer is unknown.  Could not "
    "handshake: Error in the certificate verification. [IP: 23.45.12.48 443]": "does not trust",
    "  Certificate verification failed: The certificate is NOT trusted. The certificate chain uses expired certificate."
    "  Could not handshake: Error in the certificate verification. [IP: 101.6.15.130 443]": "clock is off",
    "level=fatal msg=\"Failed to set log opts: unknown log opt 'max-size' for journald log driver\"": "do not belong",
}
HEALTHY = """\
INFO 11-21 05:00:00 [api_server.py:100] vLLM API server version 0.20.1
INFO 11-21 05:00:01 [utils.py:200] non-default args: {'model': 'google/gemma-4-E4B-it', 'max_model_len': 131072}
INFO 11-21 05:00:20 [gpu_model_runner.py:300] Model loading took 14.9 GiB memory and 18.2 seconds
INFO 11-21 05:00:40 [kv_cache_utils.py:400] GPU KV cache size: 2,396,847 tokens
INFO:     Application startup complete.
INFO:     127.0.0.1:40000 - "GET /health HTTP/1.1" 200 OK
INFO:     127.0.0.1:40001 - "GET /v1/models HTTP/1.1" 401 Unauthorized""".splitlines()


@pytest.mark.parametrize(("line", "words"), LINES.items(), ids=list(LINES.values()))
def test_a_line_is_explained(line, words):
    found = explain([*HEALTHY, line, "Traceback follows"])
    assert found, "no cause was found"
    assert words in found[0].cause


def test_every_entry_has_a_line():
    """An entry without one may have a pattern that nothing ever matches."""
    assert {finding.cause for line in LINES for finding in explain([line])[:1]} == {f.cause for f in catalogue()}


@pytest.mark.parametrize(("text", "words"), INSTALLING.items(), ids=list(INSTALLING.values()))
def test_a_failed_command_is_explained(text, words):
    found = explain(["Reading package lists...", *text.splitlines()], "failures-installing")
    assert found, "no cause was found"
    assert words in found[0].cause


def test_every_entry_about_installing_has_a_line():
    told = {explain(text.splitlines(), "failures-installing")[0].cause for text in INSTALLING}
    assert told == {finding.cause for finding in catalogue("failures-installing")}


def test_an_installation_that_went_well_has_no_cause():
    lines = ["Get:1 http://a.example noble InRelease [1 kB]", "Setting up docker.io (26.1) ...", "a1: Pull complete"]
    assert explain(lines, "failures-installing") == []


def test_a_healthy_start_has_no_cause():
    assert explain(HEALTHY) == []
    assert explain([]) == []


def test_the_first_cause_is_the_most_specific():
    lines = [line for line in LINES if "unrecognized" in line]
    causes = [finding.cause for finding in explain(lines)]
    assert len(causes) == 3
    assert "does not know a flag" in causes[-1]


def test_a_cause_is_named_once_and_there_are_three_at_most():
    line = next(iter(LINES))
    assert len(explain([line] * 5)) == 1
    assert len(explain(LINES)) == 3


def test_a_pattern_stays_within_its_line():
    assert explain(["AITER is off", "this flag is not supported"]) == []


@pytest.mark.parametrize(
    "finding", (*catalogue(), *catalogue("failures-installing")), ids=lambda finding: finding.pattern
)
def test_entries_say_cause_fix_and_source(finding):
    re.compile(finding.pattern)
    for text in (finding.cause, finding.fix, finding.source):
        assert text.strip() == text and len(text) > 5
        assert not text.endswith(".")
