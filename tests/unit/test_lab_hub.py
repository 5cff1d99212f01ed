"""The lab's hub speaks the hub's protocol, as far as the real client and curl can tell, and is a process of the lab."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request

import pytest

from ojai.lab import state, upstreams
from ojai.lab.hub.faults import Counts, Fault
from ojai.lab.hub.repository import Store, git_blob
from ojai.lab.hub.server import Hub, Running, start
from ojai.weights.program import SETTINGS

os.environ.update(SETTINGS)

from huggingface_hub import HfApi, snapshot_download

MODEL = "google/gemma-4-26B-A4B-it"
FILES = {"model-00001-of-00002.safetensors": 49_907_246_508, "model-00002-of-00002.safetensors": 3_500_000_000}


@pytest.fixture
def hub(tmp_path):
    running = start(Hub(Store(tmp_path / "models", {MODEL: FILES}, 5000, frozenset()), Counts(tmp_path / "counts")))
    yield running
    running.stop()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *words):
        return None


def answer(url: str, method: str = "GET", **headers: str):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
    try:
        return opener.open(urllib.request.Request(url, method=method, headers=headers))
    except urllib.error.HTTPError as error:
        return error


def test_the_real_client_takes_a_whole_repository(hub: Running, tmp_path):
    place = snapshot_download(MODEL, cache_dir=tmp_path / "cache", endpoint=hub.url, token=False)
    info = HfApi(endpoint=hub.url, token=False).model_info(MODEL, files_metadata=True)
    assert place.endswith(info.sha) and info.gated is False
    for one in info.siblings:
        content = (tmp_path / "cache" / place / one.rfilename).read_bytes()
        assert len(content) == one.size
        assert one.lfs is not None or git_blob(content) == one.blob_id  # git's own id
    listed = HfApi(endpoint=hub.url, token=False).list_repo_tree(MODEL, recursive=True)
    assert {one.path for one in listed} == {one.rfilename for one in info.siblings}


def test_a_weight_file_is_of_safetensors_form_and_says_what_it_stands_for(hub: Running):
    commit = hub.hub.store.find(MODEL).head
    for file, size in FILES.items():
        data = hub.hub.store.find(MODEL).commits[commit][file].path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        assert header["__metadata__"]["ojai_lab_bytes"] == str(size)
        assert header["lab.weight"]["data_offsets"] == [0, 5000] and len(data) == 8 + length + 5000


def test_large_files_come_from_the_second_address_and_small_ones_from_the_first(hub: Running):
    large = answer(f"{hub.url}/{MODEL}/resolve/main/{next(iter(FILES))}", "HEAD")
    assert large.status == 302 and large.headers["X-Repo-Commit"] == hub.hub.store.find(MODEL).head
    place = large.headers["Location"]
    assert place.startswith(f"http://127.0.0.1:{hub.hub.second}/") and large.headers["X-Linked-Size"]
    assert answer(place.partition("?")[0]).status == 403, "an address without its signature"
    rest = answer(place, Range="bytes=100-")
    assert rest.status == 206 and rest.headers["Content-Range"].startswith("bytes 100-")
    assert len(rest.read()) == int(large.headers["X-Linked-Size"]) - 100
    assert answer(place, Range=f"bytes={large.headers['X-Linked-Size']}-").status == 416
    small = answer(f"{hub.url}/{MODEL}/resolve/main/config.json", "HEAD")
    assert small.status == 307 and small.headers["Location"].startswith("/api/resolve-cache/models/")


def test_counts_and_commits_outlive_the_process(hub: Running, tmp_path):
    answer(f"{hub.url}/{MODEL}/resolve/main/config.json")
    moved = hub.hub.store.add_commit(MODEL)
    again = Store(tmp_path / "models", {MODEL: FILES}, 5000, frozenset())
    assert again.find(MODEL).head == moved and len(again.find(MODEL).commits) == 2
    assert Counts(tmp_path / "counts").shown() == hub.hub.counts.shown()


def test_a_fault_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected one of drop"):
        Fault("explode")


def test_it_is_a_process_of_the_lab_with_the_same_ports_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("OJAI_LAB_DIR", str(tmp_path / "lab"))
    monkeypatch.setenv("OJAI_LAB_HUB_SIZE", "7000")
    monkeypatch.setattr(upstreams, "START_SECONDS", 300)
    records = upstreams.start_hub(state.Records())
    try:
        assert upstreams.start_hub(records) == records
        url = f"http://127.0.0.1:{records.hub.port}"
        listed = json.load(answer(f"{url}/api/models/{MODEL}?blobs=true"))["siblings"]
        assert [one["size"] > 7000 for one in listed if one["rfilename"] in FILES] == [True, True]
        stopped = upstreams.stop(records)
        assert stopped.hub.process is None and not records.hub.process.alive
        records = upstreams.start_hub(stopped)
        assert (records.hub.port, records.hub_files.port) == (stopped.hub.port, stopped.hub_files.port)
    finally:
        upstreams.stop(records)
