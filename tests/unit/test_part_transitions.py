from __future__ import annotations

from typing import get_args

import pytest

from lowtide.core.parts import (
    RESCUED,
    Close,
    Finish,
    Join,
    Keep,
    Open,
    PartEvent,
    PartRow,
    PartState,
    PartVerdict,
    Rescue,
    transition,
)
from tests.contract.cases import LATER, NOW, SOON, part

ROWS: dict[str, PartRow | None] = {
    "none": None,
    "open": part(lease_until=SOON),
    "lapsed": part(lease_until=NOW),
    "unleased": part(lease_until=None),
    "closed": part(state=PartState.CLOSED, lease_until=None),
    "resting": part(state=PartState.CLOSED, lease_until=None, not_before=LATER),
    "joined": part(state=PartState.JOINED, lease_until=None, batch_id="b_1"),
    "rescued": part(state=PartState.JOINED, lease_until=None, batch_id=RESCUED, rescue_before=LATER),
    "done": part(state=PartState.DONE, lease_until=None, batch_id="b_1"),
}
EVENTS: dict[str, PartEvent] = {
    "open": Open(part(lease_until=LATER)),
    "close": Close(),
    "join": Join("b_1"),
    "join rival": Join("b_2"),
    "rescue": Rescue(LATER),
    "finish": Finish("b_1"),
    "finish rival": Finish("b_2"),
    "keep": Keep(NOW),
}
# + applied, = repeated, . stale
SIGNS = dict(zip("+=.", PartVerdict, strict=True))
TABLE = """
             none open lapsed unleased closed resting joined rescued done
open          +    =     =       =        =      =       =      =      =
close         .    +     +       +        .      .       .      .      .
join          .    .     +       .        +      .       =      .      =
join rival    .    .     +       .        +      .       .      .      .
rescue        .    .     +       .        +      +       .      =      .
finish        .    .     .       .        .      .       +      .      =
finish rival  .    .     .       .        .      .       .      .      .
keep          .    +     +       +        +      +       +      +      .
"""
_HEAD, *_LINES = TABLE.strip().splitlines()
CASES = [
    (row, event, SIGNS[sign])
    for line in _LINES
    for event in [line[:12].strip()]
    for row, sign in zip(_HEAD.split(), line[12:].split(), strict=True)
]


def test_the_table_has_every_row_every_event_and_every_state() -> None:
    assert {(row, event) for row, event, _ in CASES} == {(row, event) for row in ROWS for event in EVENTS}
    assert {type(event) for event in EVENTS.values()} == set(get_args(PartEvent))
    assert {row.state for row in ROWS.values() if row is not None} == set(PartState)


@pytest.mark.parametrize(("row", "event", "verdict"), CASES)
def test_every_state_takes_every_event(row: str, event: str, verdict: PartVerdict) -> None:
    decision = transition(ROWS[row], EVENTS[event], NOW)
    assert decision.verdict is verdict
    assert decision.changed is (verdict is PartVerdict.APPLIED)
    if not decision.changed:
        assert decision.row is ROWS[row]


@pytest.mark.parametrize(("row", "event", "verdict"), CASES)
def test_an_event_that_is_repeated_changes_nothing(row: str, event: str, verdict: PartVerdict) -> None:
    first = transition(ROWS[row], EVENTS[event], NOW)
    second = transition(first.row, EVENTS[event], NOW)
    assert not second.changed
    assert second.row == first.row


def test_a_part_joins_at_the_moment_its_lease_or_its_wait_ends() -> None:
    assert transition(ROWS["open"], Join("b_1"), SOON).verdict is PartVerdict.APPLIED
    assert transition(ROWS["resting"], Join("b_1"), LATER).verdict is PartVerdict.APPLIED


def test_a_joined_part_knows_its_batch_and_holds_no_lease() -> None:
    row = transition(ROWS["lapsed"], Join("b_1"), NOW).row
    assert row is not None
    assert (row.state, row.batch_id, row.lease_until) == (PartState.JOINED, "b_1", None)


def test_a_drain_that_comes_back_too_late_cannot_close_a_part_that_joined() -> None:
    joined = transition(ROWS["lapsed"], Join("b_1"), NOW).row
    assert transition(joined, Close(), NOW).verdict is PartVerdict.STALE


def test_a_rescued_part_keeps_the_moment_it_was_taken_with_and_ends_without_a_batch() -> None:
    row = transition(ROWS["closed"], Rescue(SOON), NOW).row
    again = transition(row, Rescue(LATER), LATER).row
    assert again is not None
    assert (again.rescue_before, again.batch_id) == (SOON, RESCUED)
    assert transition(again, Finish(RESCUED), LATER).verdict is PartVerdict.APPLIED


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row is not None])
def test_a_part_is_active_until_it_is_done(name: str) -> None:
    row = ROWS[name]
    assert row is not None
    assert row.active is (name != "done")
