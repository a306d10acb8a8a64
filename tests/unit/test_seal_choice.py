"""When parts become batches: full, waited for long enough, near a deadline, or because no more is coming."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.parts import Lot, PartRow
from lowtide.core.sealing import SealLimits, choose_parts
from lowtide.core.task import Endpoint

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


def part(name: str, *, tasks: int = 1, size: int = 10, tokens: int = 5, waited_s: float = 0, left_s: float = 86_400):
    return PartRow(
        part_id=name,
        lot=LOT,
        object_key=f"parts/{name}",
        tasks=tasks,
        bytes=size,
        tokens=tokens,
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


def test_a_part_that_alone_exceeds_a_limit_still_gets_its_batch():
    assert chosen(part("a", tasks=11), flush=True) == [["a"]]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 10), st.integers(0, 1_000), st.integers(0, 500)), max_size=20),
    flush=st.booleans(),
)
def test_batches_stay_within_every_limit_and_no_part_is_in_two(sizes, flush):
    parts = [
        part(f"p{number:02}", tasks=tasks, size=size, tokens=tokens)
        for number, (tasks, size, tokens) in enumerate(sizes)
    ]
    groups = choose_parts(parts, LIMITS, NOW, flush=flush)
    for group in groups:
        assert sum(each.tasks for each in group) <= LIMITS.requests
        assert sum(each.bytes for each in group) <= LIMITS.bytes
        assert sum(each.tokens for each in group) <= LIMITS.tokens
    names = [each.part_id for group in groups for each in group]
    assert len(names) == len(set(names))
    if flush:
        assert sorted(names) == sorted(each.part_id for each in parts)
