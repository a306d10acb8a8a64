"""lowtide.core.outward: what the world is told of an end, within its limits and without prompt or answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from lowtide.core import outward
from lowtide.core.lanes import Lane
from lowtide.core.outward import EventKind, Failure, Success
from lowtide.core.records import ErrorInfo, LineResponse, Pointer, ResultRecord, Status, Usage
from lowtide.core.task_rows import TaskRow, TaskState
from lowtide.core.tiers import Tier

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECRET = "what was said"


def record(**changes: Any) -> ResultRecord:
    values: dict[str, Any] = {
        "id": "rec_1",
        "custom_id": "a",
        "response": LineResponse(status_code=200, request_id="req_1", body={"text": SECRET}),
        "error": None,
        "task_id": "a",
        "tenant": "acme",
        "type": "email_draft",
        "tags": {"team": "growth"},
        "tier": Tier.HIGH,
        "lane": Lane.DEFAULT,
        "model": "gpt-5-mini",
        "status": Status.ANSWERED,
        "attempts": 1,
        "batch_id": None,
        "usage": Usage(input_tokens=10, output_tokens=5),
        "cost_usd": Decimal("0.0001"),
        "list_cost_usd": Decimal("0.0001"),
        "accepted_at": NOW,
        "finished_at": NOW,
        "deadline_met": True,
        "route": "type email_draft",
    }
    return ResultRecord(**values | changes)


def row(**changes: Any) -> TaskRow:
    values: dict[str, Any] = {
        "tenant": "acme",
        "task_id": "a",
        "content_hash": "hash",
        "origin": "m/0",
        "tier": Tier.HIGH,
        "type": "email_draft",
        "model": "gpt-5-mini",
        "accepted_at": NOW,
        "deadline_at": NOW,
        "state": TaskState.ANSWERED,
    }
    return TaskRow(**values | changes)


DEAD = record(
    status=Status.DEAD, error=ErrorInfo(code="content_policy_violation", message=f"not this: {SECRET}"), response=None
)
LARGE = record(response=LineResponse(status_code=200, request_id=None, body={"text": "x" * 1_500_000}))
POINTER = Pointer(key="results/a.json", offset=0, length=10)


def test_an_event_tells_ids_states_money_and_where_the_answer_is():
    event = outward.settled("tide", record(), row(pointer=POINTER, generation=2), TRACE)
    assert (event.kind, event.id, event.at, event.traceparent) == (EventKind.TASK, "rec_1.2", NOW, TRACE)
    told = event.detail
    assert (told["task_id"], told["tenant"], told["status"], told["lane"]) == ("a", "acme", "answered", "default")
    assert (told["cost_usd"], told["deadline_met"], told["tags"]) == ("0.0001", True, {"team": "growth"})
    assert told["result"] == {"store": "bucket", "key": "results/a.json", "offset": 0, "length": 10}
    assert (told["traceparent"], told["deployment"], told["error_code"]) == (TRACE, "tide", None)


def test_no_event_holds_an_answer_or_what_an_error_quotes_of_it():
    for each in (record(), DEAD):
        assert SECRET not in json.dumps(outward.settled("tide", each, row(), None).detail)
    assert outward.settled("tide", DEAD, row(), None).detail["error_code"] == "content_policy_violation"


def test_an_answer_on_the_row_is_found_by_the_rows_key():
    assert outward.settled("tide", record(), row(), None).detail["result"] == {"store": "table", "key": "a acme"}


def test_an_event_fits_whatever_a_sender_makes_of_tags_and_model():
    large = record(tags={"t": "x" * 500_000}, model="m" * 500_000)
    detail = outward.settled("tide", large, row(), None).detail
    assert detail["tags"] is None
    assert len(json.dumps(detail)) < 8_000


def test_a_sleeper_wakes_with_the_record():
    callback = outward.woken("t", record(), row())
    assert isinstance(callback.told, Success)
    output = json.loads(callback.told.output)
    assert output["response"]["body"] == {"text": SECRET}
    assert output["result"] == {"store": "table", "key": "a acme"}


def test_an_answer_too_large_for_a_state_is_left_where_it_is_kept():
    callback = outward.woken("t", LARGE, row(pointer=POINTER))
    assert isinstance(callback.told, Success)
    output = json.loads(callback.told.output)
    assert (output["response"], output["result"]["key"]) == (None, "results/a.json")
    assert (output["task_id"], output["status"], output["tags"]) == ("a", "answered", {"team": "growth"})


def test_tags_that_are_too_large_for_a_state_go_the_same_way():
    callback = outward.woken("t", record(tags={"t": "x" * 500_000}), row())
    assert isinstance(callback.told, Success)
    assert len(callback.told.output) < 8_000


def test_a_dead_task_wakes_its_sleeper_with_the_code_and_the_reason():
    told = outward.woken("t", DEAD, row()).told
    assert told == Failure("content_policy_violation", f"task a: not this: {SECRET}")


def test_a_failure_fits_whatever_a_provider_says():
    told = outward.failed("t", "c" * 1_000, "m" * 100_000).told
    assert isinstance(told, Failure)
    assert (len(told.error), len(told.cause)) == (256, 32_768)


def test_a_reply_is_the_record_and_goes_without_its_answer_where_no_message_holds_it():
    body, whole = outward.replied(record())
    assert whole
    assert ResultRecord.model_validate_json(body) == record()
    body, whole = outward.replied(LARGE)
    assert not whole
    assert ResultRecord.model_validate_json(body) == LARGE.model_copy(update={"response": None})
