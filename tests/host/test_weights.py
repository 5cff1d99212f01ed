"""The models are in the cache, whole, at the commit that is recorded; and so is the program that fetches them."""

import hashlib
import shlex

import pytest

from ojai.weights.pack import packed
from ojai.weights.program import STATE, folder_name, record_name


def test_the_client_is_the_one_of_this_ojai(mini, services):
    if not any(served.service.wanted for served in services):
        pytest.skip("no model of the hub is served")
    found = mini.run("sha256sum /var/lib/ojai/hub-client.pyz").stdout.split()
    assert found[:1] == [hashlib.sha256(packed()).hexdigest()], "it is missing, damaged or of another ojai"


def test_every_file_that_was_verified_is_there(mini, services):
    missing = []
    for served in services:
        for wanted in served.service.wanted:
            record = mini.run(f"cat {shlex.quote(f'{STATE}/{record_name(wanted.model, wanted.revision)}')}").stdout
            lines = [line.split("\t") for line in record.splitlines()]
            if ["complete"] not in lines:
                missing.append(f"{wanted.model}: no record, or an unfinished one")
                continue
            commit = next(line[1] for line in lines if line[0] == "commit")
            hub = f"{mini.elsewhere.get('huggingface', served.service.folders['huggingface'])}/hub"
            place = f"{hub}/{folder_name(wanted.model)}/snapshots/{commit}"
            for _, size, _, path in (line for line in lines if line[0] == "file"):
                found = mini.run(f"stat -L -c %s {shlex.quote(f'{place}/{path}')}").stdout.strip()
                if found != size:
                    missing.append(f"{path}: {found or 'no'} bytes, {size} expected")
    assert not missing, "; ".join(missing)
