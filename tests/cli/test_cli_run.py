"""A run from its file to its records: one varied file, run once, looked at from all sides."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from commands import SOON, batch_line, chat, read_lines, receipt, records, result_files, task, write_tasks

RECEIPT_KEYS = {
    *("tasks", "answered", "dead", "cancelled", "refused", "duplicates", "unpriced", "repaid"),
    *("cost_usd", "list_cost_usd", "saved_usd", "saved_pct", "by_lane", "by_tier", "by_model", "batches", "reconciled"),
    "prices",
}
BATCH_KEYS = {"batch_id", "model", "requests", "answered", "failed", "status", "seconds"}
RECORD_KEYS = {
    *("id", "custom_id", "response", "error", "task_id", "tenant", "type", "tags", "tier", "lane", "model", "status"),
    *("attempts", "batch_id", "usage", "cost_usd", "list_cost_usd", "accepted_at", "finished_at", "deadline_met"),
    "route",
}

RESPONSES = {"url": "/v1/responses", "body": {"model": "gpt-5-mini", "input": "Say hello."}}
EMBEDDINGS = {"url": "/v1/embeddings", "body": {"model": "text-embedding-3-small", "input": ["one", "two"]}}

TASKS = [
    task("critical", "live_chat_response"),  # 1
    task("high", "email_draft", tags={"team": "growth"}),
    task("normal", "meeting_summary"),
    task("low", "content_generation"),
    {"task_id": "cut off"},  # 5
    batch_line("bare"),
    task("responses", "content_generation", request=RESPONSES),
    task("responses-now", request=RESPONSES),
    task("embeddings", "data_enrichment", request=EMBEDDINGS),
    task("embeddings-now", request=EMBEDDINGS),  # 10
    {"task_id": "payload", "type": "ticket_classification", "payload": {"text": "Where is my card?"}},
    {"task_id": "payload-low", "type": "bulk_classification", "payload": {"text": "Where is my card?"}},
    task("high", "email_draft", tags={"team": "other"}),  # 13: the same content
    task("critical", "content_generation"),  # 14: another tier's, and so other content
    task("low", "content_generation", prompt="Something else."),  # 15: other content
    task("low", "content_generation", tenant="acme", prompt="Another tenant's."),
    task("unpriced", request=chat("Say hello.", "nobody-knows-me")),
    task("unpriced-low", "content_generation", request=chat("Say hello.", "nobody-knows-me")),
    task("poison", prompt="[sim:400]"),
    task("poison-low", "content_generation", prompt="[sim:400]"),  # 20
    task("shaky", prompt="[sim:500-once]"),
    task("shaky-low", "content_generation", prompt="Low. [sim:500-once]"),
    task("hopeless-low", "content_generation", prompt="[sim:500]"),
    task("never-batched", "fraud_detection", priority="LOW"),
    b'{"task_id": "half-a-line", "type"',  # 25
    task("streamed", request={**chat("hi"), "body": {**chat("hi")["body"], "stream": True}}),
]
REFUSED = {5: "invalid_task", 14: "id_conflict", 15: "id_conflict", 25: "invalid_json", 26: "unsupported_field"}
DEAD = {"poison", "poison-low", "hopeless-low"}


@pytest.fixture(scope="module")
def finished(provider, tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished")
    tasks = write_tasks(directory / "tasks.jsonl", TASKS)
    ended = provider.run(tasks, directory / "out", "--json", program=SOON)
    return ended, tasks, directory / "out"


@pytest.fixture(scope="module")
def out(finished):
    return finished[2]


def test_it_ends_with_3_and_one_json_document_on_stdout(finished):
    ended, _, out = finished
    assert ended.code == 3
    assert json.loads(ended.out) == receipt(out)


def test_each_accepted_task_has_exactly_one_record(out):
    read = read_lines(out / "results.jsonl")
    refused_or_repeated = {5, 13, 14, 15, 25, 26}
    accepted = [
        (each.get("tenant", "default"), each.get("task_id") or each["custom_id"])
        for number, each in enumerate(TASKS, start=1)
        if number not in refused_or_repeated
    ]
    assert sorted((each["tenant"], each["task_id"]) for each in read) == sorted(accepted)


def test_a_record_is_a_batch_output_line_and_more(out):
    for record in read_lines(out / "results.jsonl"):
        assert set(record) - {"unpriced"} == RECORD_KEYS
        assert ("unpriced" in record) == (record["cost_usd"] is None)
        assert record["custom_id"] == record["task_id"]
        if record["status"] == "answered":
            assert record["error"] is None
            assert set(record["response"]) == {"status_code", "request_id", "body"}
            assert record["response"]["status_code"] == 200
        else:
            assert set(record["error"]) == {"code", "message"}


def test_each_task_went_the_way_of_its_tier(out):
    found = {(each["tenant"], each["task_id"]): each for each in read_lines(out / "results.jsonl")}
    lanes = {
        task_id: (record["tier"], record["lane"]) for (tenant, task_id), record in found.items() if tenant != "acme"
    }
    assert lanes["critical"] == ("CRITICAL", "default")
    assert lanes["high"] == ("HIGH", "default")
    assert lanes["normal"] == ("NORMAL", "flex")
    batched = {task_id for task_id, way in lanes.items() if way == ("LOW", "batch")}
    assert batched == {
        *("low", "bare", "responses", "embeddings", "payload-low", "unpriced-low"),
        *("poison-low", "shaky-low", "hopeless-low"),
    }
    assert lanes["never-batched"][1] != "batch"
    assert found["default", "shaky-low"]["attempts"] == 2
    assert found["default", "hopeless-low"]["attempts"] == 3
    assert all((each["batch_id"] is not None) == (each["lane"] == "batch") for each in found.values())


def test_refused_lines_are_listed_with_their_number_and_a_stable_code(out):
    refused = read_lines(out / "refused.jsonl")
    assert {each["line"]: each["error"]["code"] for each in refused} == REFUSED
    assert [each["line"] for each in refused] == sorted(REFUSED)
    assert [each["task_id"] for each in refused] == ["cut off", "critical", "low", None, "streamed"]
    conflict = refused[2]["error"]["message"]
    assert "line 4" in conflict


def test_dead_letters_are_those_whose_status_is_dead_as_they_came(out):
    letters = read_lines(out / "dead.jsonl")
    assert {each["task"]["task_id"] for each in letters} == DEAD
    by_id = {each["task"]["task_id"]: each for each in letters}
    assert by_id["poison"]["task"] == TASKS[18]
    assert set(by_id["poison"]["error"]) == {
        *("code", "message", "provider_status", "attempts", "first_failed_at", "last_failed_at", "batch_id"),
    }
    dead = {task_id: each for task_id, each in _records_of_default(out).items() if each["status"] == "dead"}
    assert set(dead) == DEAD
    assert {task_id: each["error"]["code"] for task_id, each in dead.items()} == {
        task_id: each["error"]["code"] for task_id, each in by_id.items()
    }


def _records_of_default(out):
    return {each["task_id"]: each for each in read_lines(out / "results.jsonl") if each["tenant"] == "default"}


def test_the_receipt_has_the_keys_of_the_contract_and_adds_up(out):
    paid, read = receipt(out), read_lines(out / "results.jsonl")
    assert set(paid) == RECEIPT_KEYS
    assert paid["tasks"] == len(read) == paid["answered"] + paid["dead"] + paid["cancelled"]
    assert paid["dead"] == len(DEAD)
    assert paid["refused"] == len(REFUSED)
    assert paid["duplicates"] == 1
    assert paid["unpriced"] == 2
    assert paid["repaid"] == 0
    assert paid["reconciled"] is True
    costs = [Decimal(each["cost_usd"]) for each in read if each["cost_usd"] is not None]
    assert Decimal(paid["cost_usd"]) == sum(costs) > 0
    for group in ("by_lane", "by_tier", "by_model"):
        assert sum(Decimal(share["cost_usd"]) for share in paid[group].values()) == Decimal(paid["cost_usd"])
        assert sum(share["tasks"] for share in paid[group].values()) == paid["tasks"]
    assert Decimal(paid["saved_usd"]) == Decimal(paid["list_cost_usd"]) - Decimal(paid["cost_usd"])


def test_the_receipt_tells_every_batch(out, provider):
    batches = receipt(out)["batches"]
    assert all(set(each) == BATCH_KEYS for each in batches)
    run_names = {each["metadata"]["lowtide_deployment"] for each in provider.batches()}
    assert {each["batch_id"] for each in batches} <= {each["id"] for each in provider.batches()}
    assert all(name.startswith("run-") for name in run_names)
    assert all(each["answered"] + each["failed"] == each["requests"] for each in batches)


def test_a_model_without_a_price_costs_null(out):
    found = _records_of_default(out)
    for task_id in ("unpriced", "unpriced-low"):
        assert found[task_id]["status"] == "answered"
        assert found[task_id]["cost_usd"] is None
        assert found[task_id]["list_cost_usd"] is None


def test_nothing_is_left_at_the_provider(finished, provider):
    assert provider._ask("state")["files"] == []


def test_a_finished_run_repeats_its_files_and_its_exit_code_and_calls_nobody(finished, provider):
    _, tasks, out = finished
    before, requests = result_files(out), provider.requests()
    (out / "dead.jsonl").unlink()
    ended = provider.run(tasks, out)
    assert ended.code == 3
    assert result_files(out) == before
    assert provider.requests() == requests


def test_a_finished_run_needs_no_provider(simulator, tmp_path):
    provider = simulator()
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])
    first = provider.run(tasks, tmp_path / "out")
    provider.kill()
    before = result_files(tmp_path / "out")
    again = provider.run(tasks, tmp_path / "out")
    assert (first.code, again.code) == (0, 0)
    assert again.out == first.out
    assert result_files(tmp_path / "out") == before


def test_two_runs_of_one_file_at_one_provider_each_reconcile(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("twin"), batch_line("twin-low")])
    for name in ("first", "second"):
        assert provider.run(tasks, tmp_path / name).code == 0
        assert receipt(tmp_path / name)["reconciled"] is True


def test_without_batches_low_tasks_are_answered_in_real_time(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [batch_line("a"), task("b", "content_generation")])
    before = provider.requests().get("POST /v1/batches", 0)
    assert provider.run(tasks, tmp_path / "out", "--no-batch").code == 0
    assert {each["tier"] for each in records(tmp_path / "out").values()} == {"LOW"}
    assert "batch" not in receipt(tmp_path / "out")["by_lane"]
    assert provider.requests().get("POST /v1/batches", 0) == before
