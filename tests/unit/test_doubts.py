"""A refusal that does not say whose fault it is: decided by what became of other calls of the account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lowtide.core.doubts import doubted, resolved
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


def decided(strikes: Strikes, account: PaceRow | None, *, welcome: bool = False):
    return resolved(DOUBT, strikes, account, welcome=welcome)


BURIED = Bury("http_403", "Forbidden")
SINCE = Strikes(doubted_at=at(0))


def test_it_kills_once_a_call_was_answered_that_began_after_the_tasks_own_first_refusal():
    assert decided(SINCE, row(proven_at=at(1))) == BURIED
    assert decided(SINCE, row(proven_at=at(-1))) == DOUBT
    assert decided(SINCE, row()) == DOUBT
    assert decided(Strikes(), row(proven_at=at(1))) == DOUBT, "its first one"


def test_it_kills_one_of_few_on_an_account_that_answered_before_and_takes_the_key():
    before = row(proven_at=at(-3600), witnesses=("a", "b"))
    assert decided(SINCE, before, welcome=True) == BURIED
    assert decided(SINCE, before, welcome=False) == DOUBT
    assert decided(Strikes(), before, welcome=True) == DOUBT, "its first one"
    assert decided(SINCE, before.model_copy(update={"witnesses": ("a", "b", "c")}), welcome=True) == DOUBT
    assert decided(SINCE, row(witnesses=("a",)), welcome=True) == DOUBT, "nothing was ever answered"


def test_where_nobody_is_answered_it_is_the_accounts():
    refused = row(state=Breaker.OPEN, opens=3, doubted_at=at(0))
    assert decided(Strikes(), refused) == Halt("http_403", "Forbidden")
    assert decided(Strikes(), refused.model_copy(update={"opens": 1})) == DOUBT


def test_other_outcomes_are_left_as_they_are():
    refused = row(state=Breaker.OPEN, opens=3, proven_at=at(9))
    for outcome in (Answered(), Bury("a", "b"), Again("a", "b"), Halt("a", "b")):
        assert resolved(outcome, SINCE, refused, welcome=True) == outcome
    assert decided(Strikes(), None) == DOUBT


def test_a_task_remembers_its_first_refusal():
    once = doubted(Strikes(), DOUBT, at(0))
    assert once.doubted_at == at(0)
    assert doubted(once, DOUBT, at(9)) == once
    assert doubted(Strikes(), Again("a", "b"), at(0)) == Strikes()
