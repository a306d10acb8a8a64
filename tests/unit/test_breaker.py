"""The breaker: what opens it and what does not, one probe at a time, and whose failures use up a try."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from lowtide.core.breaker import (
    ACCOUNT_CAP_S,
    COOLDOWN_CAP_S,
    COOLDOWN_S,
    FEW,
    PATIENCE,
    buys_blind,
    forgives,
    refuses,
    rests_until,
)
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


# --- a few that always fail, or an outage ---------------------------------------------------------------------------


def presence(sign: Sign, granted: float = 0.0, *, call: str = "") -> CallEnd:
    return CallEnd(sign, at(granted), call)


def test_few_that_fail_hold_nobody_back_where_the_provider_is_there():
    row = told(None, 1, *failures(Sign.FAILED, 3), presence(Sign.PRESENT))
    assert (row.state, row.closed_at) == (Breaker.CLOSED, None)
    assert not forgives(row, at(0)), "so that what fails counts"
    row = told(row, 2, *(end(Sign.DOWN, task=f"task-{number % 4}", call=f"more-{number}") for number in range(40)))
    assert row.state is Breaker.CLOSED


def test_one_more_than_few_holds_all_back():
    row = told(None, 1, *failures(Sign.FAILED, 4), presence(Sign.PRESENT))
    assert row.state is Breaker.CLOSED
    row = told(row, 2, *failures(Sign.FAILED, FEW + 1))
    assert row.state is Breaker.OPEN
    assert told(row, 3, presence(Sign.PRESENT)).state is Breaker.OPEN


def test_an_answer_forgets_who_failed_before_it():
    row = told(None, 1, *failures(Sign.FAILED, 4), presence(Sign.PRESENT), end(Sign.ANSWERED, 1))
    assert (row.witnesses, row.present_since) == ((), None)
    assert told(row, 20, *failures(Sign.FAILED, 2, 19)).state is Breaker.CLOSED


def test_nobody_there_opens_it_at_once_unless_somebody_was_answered_a_moment_ago():
    assert told(None, 1, presence(Sign.ABSENT)).state is Breaker.OPEN
    busy = told(None, 0, end(Sign.ANSWERED, count=5))
    assert told(busy, 1, presence(Sign.ABSENT)).state is Breaker.CLOSED
    assert told(busy, 60, presence(Sign.ABSENT)).state is Breaker.OPEN


def test_a_probe_that_found_nobody_bought_nothing_and_waits_twice_as_long():
    half = probe(opened(), COOLDOWN_S).row
    again = told(half, COOLDOWN_S + 1, presence(Sign.ABSENT, COOLDOWN_S, call="probe"))
    assert (again.state, again.retry_at) == (Breaker.OPEN, at(COOLDOWN_S + 1 + 2 * COOLDOWN_S))
    assert told(half, COOLDOWN_S + 1, presence(Sign.ABSENT, COOLDOWN_S)).state is Breaker.HALF_OPEN


def ill() -> PaceRow:
    """A model of which many calls fail, and whose provider is there."""
    return told(None, 0, *failures(Sign.FAILED, 3, -1), presence(Sign.PRESENT), *failures(Sign.FAILED, 6, -1))


def test_who_failed_before_is_spared_from_probing_and_who_has_one_call_left_waits_for_an_answer():
    row = ill()
    assert row.state is Breaker.OPEN
    for _ in range(6):
        now = (row.retry_at - NOW).total_seconds()
        row = told(probe(row, now).row, now, end(Sign.FAILED, now, call="probe", task="another"))
    assert rests_until(row, row.retry_at, last=False) > row.retry_at + timedelta(seconds=200)
    assert rests_until(row, at(3600), last=False) is None
    assert rests_until(row, at(3600), last=True) == at(PATIENCE.total_seconds())
    assert rests_until(row, at(PATIENCE.total_seconds()), last=True) is None
    assert rests_until(None, at(0), last=True) is None


def test_a_model_that_nobody_answers_for_hours_must_stay_closed_back_in_the_end():
    late = PATIENCE.total_seconds() + 1
    row = told(ill(), late, presence(Sign.PRESENT))
    assert row.state is Breaker.CLOSED
    assert told(row, late + 1, *failures(Sign.FAILED, 9, late)).state is Breaker.CLOSED
    assert told(row, late + 1, presence(Sign.ABSENT)).state is Breaker.OPEN


def test_a_probe_goes_without_being_told_that_somebody_is_there_after_a_minute_and_then_every_ten():
    row, seconds, blind = opened(), 0.0, []
    for _ in range(40):
        seconds = (row.retry_at - NOW).total_seconds()
        if buys_blind(row, last=False):
            blind.append(seconds)
            assert not buys_blind(row, last=True)
        row = told(probe(row, seconds).row, seconds, presence(Sign.ABSENT, seconds, call="probe"))
    assert blind[0] == 75
    assert {later - sooner for sooner, later in pairwise(blind[1:])} == {600}


def test_a_call_that_was_answered_though_nobody_said_so_shows_that_asking_is_of_no_use():
    half = probe(opened(), COOLDOWN_S).row
    shut = told(half, 9, CallEnd(Sign.ANSWERED, at(COOLDOWN_S), "probe", "task", unseen=True))
    assert (shut.mute, shut.state) == (True, Breaker.CLOSED)
    assert told(shut, 10, end(Sign.ANSWERED, 9)).mute


# --- an account in doubt --------------------------------------------------------------------------------------------

ACCOUNT = "openai"


def account(row: PaceRow | None, seconds: float, *ends: CallEnd) -> PaceRow:
    after = transition(row, Tell(ACCOUNT, ends), at(seconds)).row
    assert after is not None
    return after


def doubt(granted: float, *, task: str = "task", call: str = "call") -> CallEnd:
    return end(Sign.DOUBTED, granted, task=task, call=call)


def take(row: PaceRow, seconds: float, call: str = "probe"):
    return transition(row, Take(ACCOUNT, call, (0,), 0.0, 30.0), at(seconds))


def test_one_refusal_that_names_nothing_must_stay_closed_back():
    row = account(None, 0, *(doubt(-1, call=f"call-{number}") for number in range(9)))
    assert (row.state, row.in_question, refuses(row)) == (Breaker.CLOSED, True, False)


@pytest.mark.parametrize("tasks", [1, 3])
def test_refusals_in_a_row_are_looked_into_by_single_calls_and_believed_after_three_more(tasks):
    row = account(None, 0, *(doubt(-1, task=f"task-{number}") for number in range(tasks)))
    for second in (1, 2):
        row = row if row.active else account(row, second, doubt(second - 0.5))
    assert (row.state, refuses(row)) == (Breaker.OPEN, False)
    now, waits = 2.0, []
    for _ in range(2):
        waits.append((row.retry_at - at(now)).total_seconds())
        now = (row.retry_at - NOW).total_seconds()
        row = account(take(row, now).row, now, doubt(now, call="probe"))
    assert refuses(row)
    assert sum(waits) < 15
    assert row.retry_at - at(now) >= timedelta(seconds=60)


@pytest.mark.parametrize("granted", [-5, 1])
def test_any_answer_proves_an_account_that_is_only_in_doubt(granted):
    row = account(None, 0, *(doubt(-1, task=f"task-{number}") for number in range(3)))
    assert row.active
    proven = account(row, 2, end(Sign.ANSWERED, granted))
    assert (proven.active, proven.in_question, proven.proven_at) == (False, False, at(granted))


def test_an_account_that_was_refused_in_so_many_words_is_not_proven_by_a_call_from_before():
    row = account(None, 0, doubt(-1), end(Sign.REFUSED, -1))
    assert refuses(row)
    assert refuses(account(row, 1, end(Sign.ANSWERED, -5)))


def test_a_row_is_active_as_long_as_its_breaker_is_not_closed():
    assert not born(KEY, NOW).active
    assert opened().active
    assert probe(opened(), COOLDOWN_S).row.active
