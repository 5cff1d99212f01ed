"""Every endpoint of a real vLLM is either offered or said to be closed, and was found to be so from outside."""

import json

from ojai.engines import endpoints
from tests.gateway.endpoints import ANSWERS, PAGE, page, routes

FOUND = json.loads(ANSWERS.read_text())
EVERY = FOUND["answers"] + FOUND["more"]
OFFERED = {one.path: one for one in endpoints.offered("vllm")}


def test_every_endpoint_is_decided_about():
    unknown = {one["path"] for one in EVERY} - OFFERED.keys() - endpoints.closed("vllm").keys()
    assert not unknown, f"not in ojai/data/vllm-endpoints.yaml: {unknown}"
    assert not OFFERED.keys() & endpoints.closed("vllm").keys()
    assert endpoints.closed("vllm").keys() <= {one["path"] for one in EVERY}, "named, and not asked"


def test_what_is_offered_is_there():
    there = {(one["path"], one["method"]) for one in FOUND["answers"]}
    assert {(one.path, method) for one in OFFERED.values() for method in one.methods} <= there


def test_without_a_key_there_is_nothing_but_health():
    for one in EVERY:
        assert one["without"] == (200 if one["path"] == "/health" else 401), one


def test_with_a_key_there_is_what_is_offered():
    for one in EVERY:
        offered = OFFERED.get(one["path"])
        if offered is None:
            assert one["with"] == 404, one
        elif offered.metrics:
            assert one["with"] == 403, one  # from an address that is not named
        else:
            assert one["with"] == one["open"], one  # the engine's own answer


def test_the_engine_itself_refuses_nobody():
    """Which is why the gateway is there: without it, every one of these is anybody's."""
    answers = {one["path"]: one["open"] for one in FOUND["answers"]}
    assert len(answers) > 20
    assert not {path for path, status in answers.items() if status in (401, 403)}
    assert "/invocations" in answers


def test_without_a_valid_key_no_counter_of_the_engine_s_moved():
    cost = FOUND["cost"]
    assert len(cost["answers"]) == 8 and cost["times"] > 1
    assert all(statuses == [401] for statuses in cost["answers"].values()), cost["answers"]
    assert cost["moved"] == []
    assert {"vllm:request_success_total", "vllm:prompt_tokens_total", "http_requests_total"} <= set(cost["with"])


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(FOUND)


def test_routes_are_read_from_the_log():
    log = "INFO [launcher.py:57] Route: /docs, Methods: HEAD, GET\n INFO Route: /v1/realtime, Endpoint: realtime\n"
    assert routes(log) == {"/docs": ["HEAD", "GET"], "/v1/realtime": ["GET"]}
