"""A refusal that does not say whose fault it is: decided by what became of other calls of the account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lowtide.core.doubts import doubted, forgotten, next_call_at, resolved, waited_enough, witness_of
from lowtide.core.outcomes import Again, Answered, Bury, Halt
from lowtide.core.pace import born
from lowtide.core.pace_rows import Breaker, PaceRow
from lowtide.core.tasks import Strikes

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
DOUBT = Again("http_403", "Forbidden", counts=False, doubt=True)


def row(**changes: object) -> PaceRow:
    return born("openai", NOW).model_copy(update=changes)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


MINE = witness_of("default a", DOUBT)
THEIRS = tuple(witness_of(f"default {name}", DOUBT) for name in "bcdef")
ELSE = witness_of("default b", Again("http_403", "Not for you", counts=False, doubt=True))
BURIED = Bury("http_403", "Forbidden")
HALTED = Halt("http_403", "Forbidden")
SINCE = Strikes(doubted_at=at(0))


def decided(
    strikes: Strikes, account: PaceRow | None, *, now: datetime = NOW, forgot: bool = False, over: bool = False
):
    return resolved(DOUBT, strikes, account, MINE, now, forgot=forgot, over=over)


def test_it_kills_once_a_call_was_answered_that_began_after_the_tasks_own_first_refusal():
    assert decided(SINCE, row(proven_at=at(11))) == BURIED
    assert decided(SINCE, row(proven_at=at(11), witnesses=(MINE, *THEIRS[:3]))) == BURIED
    assert decided(SINCE, row(proven_at=at(-1)), forgot=True) == DOUBT
    assert decided(SINCE, row(), forgot=True) == DOUBT
    assert decided(Strikes(), row(proven_at=at(11))) == DOUBT, "its first one"


def test_an_answer_of_a_call_that_began_shortly_after_it_kills_few_and_only_if_it_is_the_later_one():
    assert decided(SINCE, row(proven_at=at(1)), forgot=True) == BURIED
    assert decided(SINCE, row(proven_at=at(0)), forgot=True) == DOUBT, "it began first"
    assert decided(SINCE, row(proven_at=at(1))) == DOUBT
    assert decided(SINCE, row(proven_at=at(1), witnesses=(MINE, *THEIRS[:2])), forgot=True) == DOUBT


def test_the_row_forgets_a_refusal_once_a_call_is_answered():
    assert forgotten(row(witnesses=THEIRS[:2]), SINCE, MINE)
    assert not forgotten(row(witnesses=(MINE,)), SINCE, MINE)
    assert not forgotten(row(witnesses=THEIRS), SINCE, MINE), "the row keeps no more"
    assert not forgotten(row(), Strikes(), MINE)
    assert not forgotten(None, SINCE, MINE)


def test_a_lone_task_is_told_of_after_a_while_and_ends_after_its_deadline_and_an_hour():
    before = row(proven_at=at(-3600), witnesses=(MINE,))
    assert decided(SINCE, before, now=at(29)) == DOUBT
    assert decided(SINCE, before, now=at(30)) == HALTED
    for account, deadline_s, now_s, enough in (
        (before, 60, 3599, False),
        (before, 60, 3600, True),
        (before, 7200, 7199, False),
        (before, 7200, 7200, True),
        (row(proven_at=at(-9), witnesses=(ELSE, MINE)), 60, 3600, True),
        (row(proven_at=at(-9), witnesses=(MINE, THEIRS[0])), 60, 10**6, False),
        (row(proven_at=at(-9), witnesses=THEIRS), 60, 10**6, False),
        (row(witnesses=(MINE,)), 60, 10**6, False),
    ):
        assert waited_enough(account, SINCE, MINE, at(deadline_s), at(now_s)) is enough
    assert decided(SINCE, before, now=at(3600), over=True) == BURIED


def test_words_that_differ_in_a_number_are_the_same_words():
    one = Again("http_403", "Forbidden (request 0af3-9)", counts=False, doubt=True)
    other = Again("http_403", "FORBIDDEN  (request 77b1-2)", counts=False, doubt=True)
    assert witness_of("default a", one) == witness_of("default a", other)
    assert witness_of("default a", one) != witness_of("default b", one)
    assert ELSE.partition(".")[0] != MINE.partition(".")[0]


def test_it_is_called_again_as_late_as_it_has_been_refused():
    for passed_s, waits_s in ((0, 2), (40, 40), (4_000, 300)):
        assert next_call_at(SINCE, at(passed_s)) == at(passed_s + waits_s)
    assert next_call_at(Strikes(), NOW) == at(2)


def test_where_nobody_is_answered_it_is_the_accounts():
    refused = row(state=Breaker.OPEN, opens=3, doubted_at=at(0))
    assert decided(Strikes(), refused) == HALTED
    assert decided(Strikes(), refused.model_copy(update={"opens": 1})) == DOUBT


def test_other_outcomes_are_left_as_they_are():
    refused = row(state=Breaker.OPEN, opens=3, proven_at=at(90))
    for outcome in (Answered(), Bury("a", "b"), Again("a", "b"), Halt("a", "b")):
        assert resolved(outcome, SINCE, refused, MINE, NOW, forgot=True, over=True) == outcome
    assert decided(Strikes(), None) == DOUBT


def test_a_task_remembers_its_first_refusal():
    once = doubted(Strikes(), DOUBT, at(0))
    assert once.doubted_at == at(0)
    assert doubted(once, DOUBT, at(9)) == once
    assert doubted(Strikes(), Again("a", "b"), at(0)) == Strikes()
