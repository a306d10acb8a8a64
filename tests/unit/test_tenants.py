"""Turns: whoever has taken least is next, and many small tenants are not held back by their number."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.parts import Lot, PartRow
from lowtide.core.task import Endpoint
from lowtide.core.tenants import HALF_LIFE, SHARED, Turns, in_turn, many, shares, under_way

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOT = Lot(provider="openai", model="gpt-5-mini", endpoint=Endpoint.CHAT)


def part(name: str, of: dict[str, int], *, age_s: float = 0) -> PartRow:
    return PartRow(
        part_id=name,
        lot=LOT,
        object_key=name,
        tasks=sum(of.values()),
        bytes=1,
        tokens=1,
        shares=of,
        oldest_at=NOW - timedelta(seconds=age_s),
        tightest_deadline=NOW + timedelta(days=1),
        created_at=NOW,
    )


def names(parts: list[PartRow]) -> list[str]:
    return [each.part_id for each in parts]


def test_thirty_tasks_are_not_many_and_neither_is_a_tenth_of_all():
    assert many({"a": 30, "b": 1}) == frozenset()
    assert many({"a": 31, "b": 1}) == {"a"}
    assert many({"a": 100, "b": 900}) == {"b"}


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 5_000)))
def test_a_part_says_in_ten_entries_at_most_whose_turns_it_takes(counts):
    assert len(many(counts)) <= 9
    entries = shares(counts)
    assert len(entries) <= 10
    assert {name: entries[name] for name in many(counts)} == {name: counts[name] for name in many(counts)}
    assert (SHARED in entries) == (len(many(counts)) < len(counts))


def test_a_shared_part_counts_as_what_one_of_its_tenants_has_in_it():
    assert shares({f"t{number}": 3 for number in range(100)}) == {SHARED: 3}


def test_of_one_tenants_parts_the_oldest_goes_first():
    parts = [part("young", {"a": 50}), part("old", {"a": 50}, age_s=9)]
    assert names(in_turn(parts, {})) == ["old", "young"]


def test_what_is_under_way_counts():
    parts = [part("a", {"a": 50}, age_s=9), part("b", {"b": 50})]
    assert names(in_turn(parts, {"a": 1})) == ["b", "a"]
    assert under_way([part("x", {"a": 50}), part("y", {"a": 7, SHARED: 2})]) == {"a": 57, SHARED: 2}


def test_what_was_lately_counts_half_after_an_hour_and_is_forgotten_in_the_end():
    noted = Turns(taken={}, noted_at=NOW).after([part("x", {"a": 64})], NOW)
    assert noted.lately(NOW + HALF_LIFE) == {"a": 32}
    assert noted.after([part("y", {"a": 8})], NOW + HALF_LIFE).taken == {"a": 40}
    assert noted.lately(NOW + 7 * HALF_LIFE) == {}
    assert noted.lately(NOW - HALF_LIFE) == {"a": 64}, "another's clock is ahead of ours"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 100)), max_size=40))
def test_nobody_is_ever_further_ahead_than_one_part_of_whoever_still_waits(sizes):
    parts = [part(f"p{number:02}", {name: size}) for number, (name, size) in enumerate(sizes)]
    turns = in_turn(parts, {})
    assert sorted(names(turns)) == sorted(names(parts))
    taken: Counter[str] = Counter()
    for number, each in enumerate(turns):
        waiting = {name for later in turns[number:] for name in later.shares}
        [name] = each.shares
        assert taken[name] == min(taken[other] for other in waiting)
        taken.update(each.shares)
