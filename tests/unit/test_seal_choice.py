"""When parts become batches: full, waited for long enough, near a deadline, or because no more is coming."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.parts import Lot, PartRow
from lowtide.core.sealing import SealLimits, plan
from lowtide.core.task import Endpoint
from lowtide.core.tenants import SHARED

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOT = Lot(provider="openai", model="gpt-5-mini", endpoint=Endpoint.CHAT)
LIMITS = SealLimits(
    inputs=50_000,
    requests=10,
    bytes=1_000,
    tokens=500,
    max_wait=timedelta(minutes=15),
    deadline_margin=lambda _tasks: timedelta(minutes=30),
)


def part(
    name: str,
    *,
    tasks: int = 1,
    size: int = 10,
    tokens: int = 5,
    waited_s: float = 0,
    left_s: float = 86_400,
    shares: dict[str, int] | None = None,
):
    return PartRow(
        part_id=name,
        lot=LOT,
        object_key=f"parts/{name}",
        tasks=tasks,
        bytes=size,
        tokens=tokens,
        shares=shares or {},
        oldest_at=NOW - timedelta(seconds=waited_s),
        tightest_deadline=NOW + timedelta(seconds=left_s),
        created_at=NOW,
    )


def chosen(*parts: PartRow, flush: bool = False) -> list[list[str]]:
    return [[each.part_id for each in group] for group in plan(parts, {}, {LOT: LIMITS}, NOW, flush=flush)]


def test_nothing_becomes_nothing():
    assert chosen(flush=True) == []


def test_a_part_that_may_still_get_company_waits():
    assert chosen(part("a"), part("b")) == []


def test_a_flush_takes_what_is_there():
    assert chosen(part("a"), part("b"), flush=True) == [["a", "b"]]


def test_the_oldest_part_waits_no_longer_than_it_has_to_and_takes_the_others_along():
    assert chosen(part("young"), part("old", waited_s=15 * 60)) == [["old", "young"]]


def test_a_deadline_that_draws_near_seals_the_batch():
    assert chosen(part("a", left_s=30 * 60)) == [["a"]]
    assert chosen(part("a", left_s=30 * 60 + 1)) == []


def test_a_full_batch_goes_and_what_did_not_fit_waits():
    assert chosen(part("a", tasks=6, waited_s=2), part("b", tasks=6, waited_s=1)) == [["a"]]


@pytest.mark.parametrize("measure", [{"tasks": 5}, {"size": 500}, {"tokens": 250}])
def test_a_batch_that_is_exactly_full_waits_for_nobody(measure):
    assert chosen(part("a", **measure), part("b", **measure)) == [["a", "b"]]
    assert chosen(part("a", **measure)) == []


def later_by(hours: float) -> SealLimits:
    return replace(LIMITS, cheaper_at=NOW + timedelta(hours=hours))


def test_what_has_the_time_waits_for_the_cheaper_hour_however_full_old_or_flushed():
    parts = [part("full", tasks=10), part("old", waited_s=3_600)]
    assert plan(parts, {}, {LOT: later_by(3)}, NOW, flush=True) == []


def test_what_would_be_late_does_not_wait_for_the_cheaper_hour():
    hour_and_margin_s = 3_600 + 30 * 60
    parts = [part("tight", left_s=hour_and_margin_s), part("has time", left_s=hour_and_margin_s + 1)]
    [group] = plan(parts, {}, {LOT: later_by(1)}, NOW, flush=True)
    assert [each.part_id for each in group] == ["tight"]


def test_the_margin_before_a_deadline_may_grow_with_the_batch():
    limits = replace(LIMITS, deadline_margin=lambda tasks: timedelta(minutes=tasks))
    small, large = part("a", left_s=5 * 60), part("b", tasks=4, left_s=86_400)
    assert len(plan([small, large], {}, {LOT: limits}, NOW, flush=False)) == 1
    assert plan([small], {}, {LOT: limits}, NOW, flush=False) == []


def test_ten_tasks_are_in_the_first_batch_though_ten_thousand_came_before_them():
    bulk = [part(f"bulk-{n:04}", tasks=5, waited_s=60, shares={"bulk": 5}) for n in range(2_000)]
    small = part("small", tasks=5, shares={SHARED: 5})
    assert plan([*bulk, small], {}, {LOT: LIMITS}, NOW, flush=False)[0] == [bulk[0], small]
    assert plan([*bulk, small], {"bulk": 5}, {LOT: LIMITS}, NOW, flush=False)[0] == [small, bulk[0]]


def test_turns_decide_between_lots_too():
    other = LOT.model_copy(update={"model": "gpt-5"})
    bulk = [part(f"bulk-{n}", tasks=10, waited_s=60, shares={"bulk": 10}) for n in range(5)]
    small = part("small", shares={SHARED: 1}).model_copy(update={"lot": other})
    groups = plan([*bulk, small], {}, {LOT: LIMITS, other: LIMITS}, NOW, flush=True)
    assert [group[0].part_id for group in groups[:2]] == ["bulk-0", "small"]


def test_a_part_that_alone_exceeds_a_limit_still_gets_its_batch():
    assert chosen(part("a", tasks=11), flush=True) == [["a"]]


def test_what_fits_beside_others_is_not_left_in_a_batch_of_its_own():
    parts = [part("a", tasks=10), part("b", tasks=5), part("c", tasks=10), part("d", tasks=5)]
    assert chosen(*parts) == [["a"], ["b", "d"], ["c"]]
    assert chosen(*parts[:3]) == [["a"], ["c"]], "the emptiest waits for company"


@given(
    sizes=st.lists(st.tuples(st.integers(1, 10), st.integers(0, 1_000), st.integers(0, 500)), max_size=20),
    flush=st.booleans(),
)
def test_batches_stay_within_every_limit_and_no_part_is_in_two(sizes, flush):
    parts = [
        part(f"p{number:02}", tasks=tasks, size=size, tokens=tokens)
        for number, (tasks, size, tokens) in enumerate(sizes)
    ]
    groups = plan(parts, {}, {LOT: LIMITS}, NOW, flush=flush)
    for group in groups:
        assert sum(each.tasks for each in group) <= LIMITS.requests
        assert sum(each.bytes for each in group) <= LIMITS.bytes
        assert sum(each.tokens for each in group) <= LIMITS.tokens
    names = [each.part_id for group in groups for each in group]
    assert len(names) == len(set(names))
    if flush:
        assert sorted(names) == sorted(each.part_id for each in parts)
