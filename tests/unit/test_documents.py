"""The end of a task, written down: what it says, and that whatever a provider sends can be kept and read again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from lowtide.adapters.shipped import shipped_prices, shipped_routes
from lowtide.core import documents
from lowtide.core.acceptance import accept
from lowtide.core.charges import Seller
from lowtide.core.documents import Try
from lowtide.core.jsontext import DEEPEST
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import LaneFault, Response
from lowtide.core.receipts import Receipt
from lowtide.core.records import ResultDocument, ResultRecord, Status
from lowtide.core.tasks import Strikes

SENT = datetime(2026, 11, 2, 12, tzinfo=UTC)
NOW = SENT + timedelta(seconds=40)
SELLER = Seller(shipped_prices())
MESSAGE = {"task_id": "a", "type": "content_generation", "payload": {"text": "Hello"}, "tags": {"team": "growth"}}
TASK = accept(MESSAGE, origin="m/0", sent_at=SENT, routes=shipped_routes())
FIRST = Try(1, Lane.BATCH, "why", Strikes(), batch_id="batch_1")
USAGE = {"prompt_tokens": 1_000, "completion_tokens": 500}


def answer(body: object = None, attempt: Try = FIRST, now: datetime = NOW) -> ResultDocument:
    body = {"usage": USAGE, "choices": []} if body is None else body
    return documents.answered(TASK, attempt, Response(200, body, "req_1"), SELLER, now)


def test_an_answer_is_priced_on_its_lane_with_the_list_price_beside_it():
    record = answer().record
    assert record.status is Status.ANSWERED
    assert record.cost_usd is not None
    assert record.cost_usd * 2 == record.list_cost_usd
    assert record.cost_usd > 0
    assert (record.usage.input_tokens, record.usage.output_tokens) == (1_000, 500)
    assert (record.task_id, record.custom_id, record.tags, record.batch_id) == ("a", "a", {"team": "growth"}, "batch_1")


def test_what_failed_attempts_cost_is_in_the_cost_and_not_in_the_list_price():
    spent = Strikes(failures=1, spent_usd=Decimal("0.5"))
    dearer = answer(attempt=Try(2, Lane.BATCH, "why", spent)).record
    assert dearer.cost_usd == answer().record.cost_usd + Decimal("0.5")
    assert dearer.list_cost_usd == answer().record.list_cost_usd


def test_a_record_says_when_another_model_was_billed():
    record = answer({"usage": USAGE, "model": "gpt-6.1-sol"}).record
    assert (record.model, record.model_asked) == ("gpt-6.1-sol", TASK.model)
    assert record.route == "why; billed as gpt-6.1-sol"
    assert set(answer().record.model_dump()).isdisjoint({"model_asked", "unpriced", "tool_calls"})


def test_a_record_counts_the_calls_of_hosted_tools():
    body = {"model": "gpt-4o", "input": "?"}
    raw = {"task_id": "b", "type": "email_draft", "request": {"url": "/v1/responses", "body": body}}
    task = accept(raw, origin="m/1", sent_at=SENT, routes=shipped_routes())
    calls = [{"type": "web_search_call"}, {"type": "web_search_call"}]
    said = {"model": "gpt-4o", "usage": {"input_tokens": 1_000, "output_tokens": 100}, "output": calls}
    record = documents.answered(task, Try(1, Lane.DEFAULT, "why", Strikes()), Response(200, said), SELLER, NOW).record
    assert (record.cost_usd, record.tool_calls) == (Decimal("0.0235"), {"web_search_call": 2})
    again = ResultDocument.model_validate_json(ResultDocument(record=record).model_dump_json()).record
    assert again.tool_calls == record.tool_calls


def test_a_late_answer_is_an_answer_that_missed_its_deadline():
    assert answer(now=TASK.deadline_at).record.deadline_met
    assert not answer(now=TASK.deadline_at + timedelta(milliseconds=1)).record.deadline_met


def test_a_lane_that_comes_back_is_the_lane_that_is_billed():
    flex = Try(1, Lane.FLEX, "why", Strikes())
    assert answer({"usage": USAGE, "service_tier": "default"}, flex).record.lane is Lane.DEFAULT


def test_a_dead_task_keeps_the_last_response_and_its_letter_gives_the_task_back_as_it_came():
    failed = Strikes(failures=3, first_failed_at=SENT, last_failed_at=SENT)
    response = Response(400, {"error": {"code": "bad"}}, "req_1")
    document = documents.dead(TASK, Try(3, Lane.BATCH, "why", failed, "batch_1"), "bad", "It is bad.", response, NOW)
    assert (document.record.status, document.record.deadline_met) == (Status.DEAD, False)
    assert document.record.response is not None
    assert document.record.response.status_code == 400
    assert document.letter is not None
    assert document.letter.task == MESSAGE
    error = document.letter.error
    assert (error.code, error.provider_status, error.attempts, error.batch_id) == ("bad", 400, 3, "batch_1")
    assert (error.first_failed_at, error.last_failed_at) == (SENT, NOW)


def test_the_id_of_a_record_is_the_same_however_often_it_is_written():
    assert answer().record.id == answer(now=NOW + timedelta(hours=1)).record.id


def nested(levels: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(levels - 1):
        value = {"in": value}
    return value


@pytest.mark.parametrize("levels", [1, DEEPEST - 1, DEEPEST, 190, 260, 900, 5_000])
def test_a_body_of_any_depth_is_kept_so_that_the_document_can_be_read_again(levels):
    document = answer(nested(levels))
    assert ResultDocument.model_validate_json(document.model_dump_json()) == document
    assert document.record.response is not None
    if levels <= DEEPEST:
        assert document.record.response.body == nested(levels)


@pytest.mark.parametrize(
    "usage", [None, "much", [], {"prompt_tokens": "x"}, {"prompt_tokens": -5}, {"input_tokens": 1.5}]
)
def test_an_answer_whose_usage_cannot_be_read_is_an_answer_all_the_same(usage):
    record = answer({"usage": usage}).record
    assert record.status is Status.ANSWERED
    assert record.usage.input_tokens >= 0


def test_only_attempts_that_count_are_strikes():
    once = documents.struck(Strikes(), NOW, counts=True)
    assert (once.failures, once.first_failed_at, once.last_failed_at) == (1, NOW, NOW)
    later = NOW + timedelta(minutes=1)
    assert documents.struck(once, later, counts=False) == once
    twice = documents.struck(once, later, counts=True)
    assert (twice.failures, twice.first_failed_at, twice.last_failed_at) == (2, NOW, later)
    refused = documents.struck(once, later, counts=False, lane_fault=LaneFault.NO_CAPACITY)
    stalled = documents.struck(refused, later, counts=False, lane_fault=LaneFault.STALLED)
    unknown = documents.struck(stalled, later, counts=False, lane_fault=LaneFault.UNKNOWN)
    assert (unknown.failures, unknown.flex_refusals, unknown.flex_stalls, unknown.lane_unknown) == (1, 1, 1, True)


def test_a_record_of_the_last_release_is_read_and_written_back_as_it_was():
    known = answer().record.model_dump_json()
    written = known.replace('"route":"why"', '"route":"why","later":{"a":[1]}')
    for text in (known, written):
        assert ResultRecord.model_validate_json(text).model_dump_json() == text
    assert Receipt.of(ResultRecord.model_validate_json(known)) == Receipt.of(answer().record)
