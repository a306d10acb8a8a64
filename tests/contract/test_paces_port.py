"""Pace rows: what many functions take at once is no more than the rate has, and only one of them probes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from lowtide.core.pace_events import CallEnd, Ceiling, Sign, Take, Tell
from lowtide.core.pace_rows import Breaker
from lowtide.ports import Change
from tests.contract.cases import NOW
from tests.contract.conftest import Store

KEY = "openai gpt-5-mini"
CEILING = Ceiling(requests=600)


def apply(store: Store, event: Any, now: datetime = NOW, seen: Any = None) -> Any:
    [decision] = store.paces.apply([Change(event.key, event, seen)], now)
    return decision


def take(call: str, count: int = 5) -> Take:
    return Take(KEY, call, (0,) * count, 1.0, 30.0, ceiling=CEILING)


def down(store: Store, key: str = KEY) -> Any:
    ends = tuple(CallEnd(Sign.DOWN, NOW - timedelta(minutes=1), f"call-{number}") for number in range(3))
    return apply(store, Tell(key, ends), NOW - timedelta(seconds=30))


def test_what_many_take_at_the_same_moment_is_no_more_than_one_could(store: Store) -> None:
    with ThreadPoolExecutor(4) as threads:
        decisions = list(threads.map(lambda number: apply(store, take(f"call-{number}")), range(8)))
    granted = [moment for decision in decisions for moment in decision.moments]
    assert len(granted) == 20  # a second's burst, and a second ahead
    assert max(granted) - NOW <= timedelta(seconds=1)


def test_a_row_comes_back_to_the_last_field(store: Store) -> None:
    decision = apply(store, take("call", 3))
    assert decision.row.rev == 1
    assert store.paces.get([KEY]) == [decision.row]


def test_exactly_one_of_many_gets_to_probe(store: Store) -> None:
    down(store)
    with ThreadPoolExecutor(4) as threads:
        decisions = list(threads.map(lambda number: apply(store, take(f"call-{number}")), range(6)))
    [probe] = [decision for decision in decisions if decision.probe]
    [row] = store.paces.get([KEY])
    assert row is not None
    assert (row.state, row.probe) == (Breaker.HALF_OPEN, probe.row.probe)
    assert sum(len(decision.moments) for decision in decisions) == 1


def test_active_lists_the_breakers_that_are_not_closed_oldest_first_and_nothing_else(store: Store) -> None:
    apply(store, Take("openai gpt-5", "call", (0,), 0.0, 30.0))
    assert store.paces.active() == []
    opened = down(store).row
    account = apply(store, Tell("openai", (CallEnd(Sign.REFUSED, NOW, "call"),))).row
    assert store.paces.active() == [opened, account]
    assert [row.of_account for row in store.paces.active()] == [False, True]
    probe = apply(store, take("probe")).row
    assert store.paces.active() == [probe, account]
    apply(store, Tell(KEY, (CallEnd(Sign.ANSWERED, NOW, "probe"),)))
    assert store.paces.active() == [account]
