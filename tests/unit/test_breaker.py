"""The breaker: what opens it and what does not, one probe at a time, and whose failures use up a try."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lowtide.core.breaker import ACCOUNT_CAP_S, COOLDOWN_CAP_S, COOLDOWN_S, forgives
from lowtide.core.pace import born, transition
from lowtide.core.pace_events import CallEnd, Held, PaceVerdict, Sign, Take, Tell
from lowtide.core.pace_rows import Breaker, PaceRow

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
KEY = "openai gpt-5-mini"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def told(row: PaceRow | None, seconds: float, *ends: CallEnd) -> PaceRow:
    after = transition(row, Tell(KEY, ends), at(seconds)).row
    assert after is not None
    return after


def end(sign: Sign, granted: float = 0.0, *, call: str = "call", task: str = "task", count: int = 1) -> CallEnd:
    return CallEnd(sign, at(granted), call, task, count=count)


def failures(sign: Sign, many: int, granted: float = 0.0) -> list[CallEnd]:
    """Of as many different tasks."""
    return [end(sign, granted, call=f"call-{number}", task=f"task-{number}") for number in range(many)]


def probe(row: PaceRow | None, seconds: float, call: str = "probe"):
    return transition(row, Take(KEY, call, (0, 0, 0), 1.0, 30.0), at(seconds))


def opened(seconds: float = 0.0) -> PaceRow:
    return told(None, seconds, *failures(Sign.DOWN, 3, seconds - 1))


def test_three_tasks_that_fail_in_a_row_open_it():
    assert told(None, 1, *failures(Sign.FAILED, 2)).state is Breaker.CLOSED
    assert told(None, 1, *failures(Sign.FAILED, 3)).state is Breaker.OPEN


def test_one_task_that_always_fails_never_opens_it():
    row = told(None, 1, *(end(Sign.FAILED, task="poison", call=f"call-{number}") for number in range(50)))
    assert row.state is Breaker.CLOSED
    assert not forgives(row, at(0))


def test_a_provider_that_says_itself_that_it_is_down_needs_one_witness_and_three_tries():
    row = told(None, 1, *(end(Sign.DOWN, task="lone", call=f"call-{number}") for number in range(3)))
    assert row.state is Breaker.OPEN


def test_a_share_of_errors_among_many_answers_opens_nothing():
    row = None
    for second in range(30):
        row = told(row, second, end(Sign.ANSWERED, second, count=8), *failures(Sign.FAILED, 4, second))
    assert row.state is Breaker.CLOSED


def test_in_full_traffic_ten_failures_without_an_answer_open_it():
    busy = told(None, 0, end(Sign.ANSWERED, count=500))
    assert told(busy, 1, *failures(Sign.DOWN, 9)).state is Breaker.CLOSED
    assert told(busy, 1, *failures(Sign.DOWN, 10)).state is Breaker.OPEN


@pytest.mark.parametrize("sign", [Sign.LIMITED, Sign.NO_CAPACITY, Sign.ANSWERED, Sign.STALLED, Sign.UNUSED])
def test_nothing_else_opens_it(sign):
    assert told(None, 1, *failures(sign, 20)).state is Breaker.CLOSED


def test_while_it_is_open_nobody_calls_and_each_is_told_when_to_ask_again():
    decision = probe(opened(), COOLDOWN_S - 0.1)
    assert (decision.verdict, decision.held, decision.later) == (PaceVerdict.LATER, Held.BREAKER, at(COOLDOWN_S))
    assert not decision.changed


def test_once_it_has_cooled_down_one_call_probes_and_no_other_until_that_has_ended():
    first = probe(opened(), COOLDOWN_S)
    assert (first.moments, first.probe, first.row.state) == ((at(COOLDOWN_S),), True, Breaker.HALF_OPEN)
    assert probe(first.row, COOLDOWN_S + 29, "another").verdict is PaceVerdict.LATER


def test_a_probe_whose_process_died_is_another_s_when_its_lease_is_over():
    died = probe(opened(), COOLDOWN_S).row
    second = probe(died, COOLDOWN_S + 30, "another")
    assert second.probe
    # The dead one's answer after all: no longer the probe's.
    assert told(second.row, COOLDOWN_S + 31, end(Sign.ANSWERED, COOLDOWN_S, call="probe")).state is Breaker.HALF_OPEN


@pytest.mark.parametrize("sign", [Sign.ANSWERED, Sign.LIMITED, Sign.NO_CAPACITY])
def test_a_probe_that_is_answered_in_any_way_closes_it(sign):
    half = probe(opened(), COOLDOWN_S).row
    shut = told(half, COOLDOWN_S + 1, end(sign, COOLDOWN_S, call="probe"))
    assert (shut.state, shut.opens, shut.failures) == (Breaker.CLOSED, 0, 0)


def test_each_probe_that_fails_waits_twice_as_long_up_to_a_minute():
    row, seconds, waits = opened(), 0.0, []
    for _ in range(6):
        waits.append((row.retry_at - at(seconds)).total_seconds())
        seconds += waits[-1]
        row = told(probe(row, seconds).row, seconds, end(Sign.DOWN, seconds, call="probe"))
    assert waits == [5, 10, 20, 40, COOLDOWN_CAP_S, COOLDOWN_CAP_S]
    assert row.opened_at == NOW


def test_a_probe_that_is_not_made_is_at_once_somebody_else_s():
    half = probe(opened(), COOLDOWN_S).row
    back = told(half, COOLDOWN_S + 1, end(Sign.UNUSED, COOLDOWN_S, call="probe"))
    assert probe(back, COOLDOWN_S + 1, "another").probe


def test_answers_to_calls_from_before_the_opening_do_not_close_it():
    assert told(opened(), 1, end(Sign.ANSWERED, -5, count=20)).state is Breaker.OPEN


def test_failures_of_an_outage_use_up_no_try_not_even_those_that_end_after_it():
    row = opened()
    assert forgives(row, at(-1))
    shut = told(probe(row, COOLDOWN_S).row, 7, end(Sign.ANSWERED, COOLDOWN_S, call="probe"))
    assert forgives(shut, at(3))
    assert not forgives(shut, at(7.5))
    late = told(shut, 8, *failures(Sign.FAILED, 20, granted=3))
    assert late.state is Breaker.CLOSED


def test_an_account_is_believed_at_once_and_left_alone_for_longer():
    row, seconds, waits = told(None, 0, end(Sign.REFUSED)), 0.0, []
    for _ in range(5):
        assert row.state is Breaker.OPEN
        waits.append((row.retry_at - at(seconds)).total_seconds())
        seconds += waits[-1]
        row = told(probe(row, seconds).row, seconds, end(Sign.REFUSED, seconds, call="probe"))
    assert waits == [60, 120, 240, ACCOUNT_CAP_S, ACCOUNT_CAP_S]


def test_many_refusals_of_calls_that_were_under_way_are_one():
    once = told(None, 0, end(Sign.REFUSED, -1))
    assert told(once, 1, *(end(Sign.REFUSED, -1, call=f"call-{number}") for number in range(20))) == once


def test_what_is_known_already_is_said_to_be_repeated():
    row = opened()
    repeated = transition(row, Tell(KEY, (end(Sign.DOWN, -1),)), at(1))
    assert (repeated.verdict, repeated.changed) == (PaceVerdict.REPEATED, False)


def test_a_row_is_active_as_long_as_its_breaker_is_not_closed():
    assert not born(KEY, NOW).active
    assert opened().active
    assert probe(opened(), COOLDOWN_S).row.active
