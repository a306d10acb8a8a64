"""Result files that are not named, or not to be had: what is waited for, how long, and what then counts as billed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lowtide.core.batches import Away, AwayFile, BatchRow, ProviderBatch, ProviderStatus, RequestCounts
from lowtide.core.errors import BrokenOff, Garbled, KeyUnreadable, ProviderRefused, Redirected, Unreachable
from lowtide.core.result_files import (
    NAMED_WITHIN,
    PATIENCE,
    given_up_at,
    in_reading_order,
    lost,
    may_yet_name_files,
    since_when,
    waits_for_names,
    why_away,
)
from tests.contract.cases import NOW, batch

COMPLETED, EXPIRED = ProviderStatus.COMPLETED, ProviderStatus.EXPIRED
CANCELLED, FAILED = ProviderStatus.CANCELLED, ProviderStatus.FAILED
SILENT = RequestCounts()


def counts(total, completed, failed) -> RequestCounts:
    return RequestCounts(total=total, completed=completed, failed=failed)


def seen(status=COMPLETED, told=SILENT, *, output=None, error=None) -> ProviderBatch:
    return ProviderBatch(id="b", status=status, counts=told, output_ref=output, error_ref=error)


@pytest.mark.parametrize(
    "ended",
    [
        seen(),
        seen(told=counts(5, 5, 0)),
        seen(told=counts(5, 0, 5)),
        seen(told=counts(5, 0, 0)),
        seen(told=counts(5, 3, 2)),
        seen(told=counts(5, 3, 2), error="e"),
        seen(told=counts(5, 0, 3), error="e"),
        seen(told=counts(None, 1, None)),
        seen(told=counts(5, None, None)),
        seen(error="e"),
        seen(EXPIRED),
        seen(EXPIRED, counts(5, 3, 2)),
        seen(EXPIRED, counts(5, 3, 2), error="e"),
        seen(CANCELLED),
        seen(CANCELLED, counts(5, 1, 0)),
        seen(FAILED, counts(5, 1, 4)),
    ],
)
def test_a_batch_that_may_have_answered_something_may_yet_say_where(ended):
    assert may_yet_name_files(ended)


@pytest.mark.parametrize(
    "ended",
    [
        seen(told=counts(0, 0, 0)),
        seen(told=counts(None, 0, None)),
        seen(told=counts(5, 5, 0), output="o"),
        seen(told=counts(5, 0, 5), error="e"),
        seen(output="o"),
        seen(EXPIRED, counts(5, 0, 5)),
        seen(CANCELLED, counts(5, 0, 0)),
        seen(FAILED),
        seen(FAILED, counts(0, 0, 0)),
        seen(FAILED, counts(5, 0, 5)),
        seen(ProviderStatus.IN_PROGRESS),
        seen(ProviderStatus.CANCELLING, counts(5, 3, 0)),
    ],
)
def test_a_batch_that_answered_nothing_or_has_said_where_is_not_waited_for(ended):
    assert not may_yet_name_files(ended)


def row(**changes) -> BatchRow:
    return batch().model_copy(update=changes)


def test_names_are_waited_for_ten_minutes_from_the_first_look():
    since = row(unnamed_since=NOW)
    assert waits_for_names(row(), seen(), NOW)
    assert waits_for_names(since, seen(), NOW + NAMED_WITHIN - timedelta(microseconds=1))
    assert not waits_for_names(since, seen(), NOW + NAMED_WITHIN)
    assert timedelta(minutes=10) == NAMED_WITHIN


def refused(status, code=None) -> ProviderRefused:
    return ProviderRefused(status, code, f"HTTP {status}")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (refused(404, "not_found"), Away.GONE),
        (refused(410), Away.GONE),
        (refused(400), Away.GONE),
        (refused(405), Away.GONE),
        (refused(416), Away.GONE),
        (Garbled("a web page"), Away.GONE),
        (refused(403), Away.BARRED),
        (refused(403, "missing_scope"), Away.BARRED),
        (Redirected("to another origin"), Away.BARRED),
        (BrokenOff("connection reset"), Away.KEPT_BACK),
        (refused(500), Away.UNWELL),
        (refused(503), Away.UNWELL),
        (refused(429), Away.UNWELL),
        (refused(408), Away.UNWELL),
        (Unreachable("nobody is there"), Away.UNWELL),
        (refused(401, "invalid_api_key"), None),
        (refused(429, "insufficient_quota"), None),
        (KeyUnreadable("no such secret"), None),
    ],
)
def test_why_a_file_is_away_decides_how_long_it_is_asked_for_and_an_account_is_waited_for_without_end(error, why):
    assert why_away(error) is why


def test_gone_is_five_minutes_kept_back_an_hour_barred_thirty_days_or_six_hours_and_unwell_two_days():
    assert [PATIENCE[why].total_seconds() for why in Away] == [300, 3_600, 2_592_000, 21_600, 172_800]
    file = AwayFile(ref="f", why=Away.GONE, reason="HTTP 404", since=NOW)
    assert given_up_at(file) == NOW + timedelta(minutes=5)


def test_the_clock_of_a_file_starts_anew_when_it_is_away_for_another_reason():
    later = NOW + timedelta(hours=3)
    away = row(away=(AwayFile(ref="f", why=Away.UNWELL, reason="HTTP 503", since=NOW),))
    assert since_when(away, "f", Away.UNWELL, later) == NOW
    assert since_when(away, "f", Away.GONE, later) == later
    assert since_when(away, "another", Away.UNWELL, later) == later


def test_what_is_in_no_file_may_have_been_billed_where_a_file_was_lost_or_never_named():
    gone = AwayFile(ref="f", why=Away.GONE, reason="HTTP 404: No such File object", since=NOW)
    given_up = gone.model_copy(update={"given_up": True})
    assert lost(row()) is None
    assert lost(row(away=(gone,))) is None
    assert lost(row(away=(given_up,))) == "its result file f could not be had: HTTP 404: No such File object"
    unnamed = row(unnamed_since=NOW, provider_batch=seen(CANCELLED, counts(5, 1, 0)))
    assert lost(unnamed) == "its batch ended and never named the file with its answers"
    assert lost(row(unnamed_since=NOW, provider_batch=seen(output="o"))) is None


def test_a_look_that_drops_the_name_of_a_file_does_not_lose_it():
    before = seen(ProviderStatus.IN_PROGRESS, output="o")
    assert seen(error="e").after(before).result_refs == ("o", "e")
    assert seen(output="new").after(before).result_refs == ("new",)
    other = before.model_copy(update={"id": "another"})
    assert seen().after(other).result_refs == ()


def test_a_batch_that_was_seen_at_work_or_counted_an_answer_may_have_run_whatever_it_says_later():
    at_work = seen(ProviderStatus.IN_PROGRESS).model_copy(update={"began": True})
    assert not seen(FAILED).after(seen(ProviderStatus.IN_PROGRESS)).may_have_run, "an unknown word counts so, too"
    assert not seen(FAILED).after(seen(ProviderStatus.VALIDATING)).may_have_run
    assert seen(FAILED).after(at_work).may_have_run
    assert seen(FAILED).after(seen(FAILED).after(at_work)).may_have_run
    assert seen(FAILED, counts(0, 0, 0)).after(at_work).may_have_run
    assert not seen(FAILED, counts(5, 0, 0)).after(at_work).may_have_run
    assert seen(FAILED, counts(5, None, None)).after(at_work).may_have_run
    assert seen(FAILED, counts(5, 0, 0)).after(seen(ProviderStatus.IN_PROGRESS, counts(5, 2, 0))).may_have_run
    used = at_work.model_copy(update={"usage": {"total_tokens": 7}})
    assert seen(FAILED, counts(5, 0, 0)).after(used).may_have_run
    assert not seen(FAILED, counts(5, 0, 0)).after(used.model_copy(update={"usage": {"total_tokens": 0}})).may_have_run
    assert not seen(FAILED, counts(5, 0, 5)).may_have_run


def test_one_file_under_both_names_is_read_once():
    assert seen(output="f", error="f").result_refs == ("f",)
    assert seen(output="o", error="e").with_only("e").result_refs == ("e",)


def test_a_file_that_could_not_be_had_is_read_after_the_others_from_then_on():
    barred = AwayFile(ref="o", why=Away.BARRED, reason="HTTP 403", since=NOW)
    broken = barred.model_copy(update={"why": Away.KEPT_BACK})
    assert in_reading_order(row(), ("o", "e")) == ["o", "e"]
    assert in_reading_order(row(away=(barred,)), ("o", "e")) == ["e", "o"]
    assert in_reading_order(row(away=(broken,)), ("o", "e")) == ["o", "e"]
