"""Off-peak windows: when they are open, when the next one opens, and what they take off."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import ValidationError

from lowtide.core.lanes import Lane
from lowtide.core.offpeak import OffPeak, discount, next_open, open_now

NIGHT = OffPeak.model_validate(
    {"from": "2026-03-01", "until": "2026-03-10", "opens": "16:30", "closes": "00:30", "discount": "0.5"}
)


CALLS = NIGHT.model_copy(update={"lanes": (Lane.DEFAULT,), "discount": Decimal("0.75")})


def next_opening(windows, now):
    hours = next_open(windows, Lane.BATCH, now)
    return None if hours is None else hours.opens


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "off"),
    [
        (at(2, 16, 29), "0"),
        (at(2, 16, 30), "0.5"),
        (at(2, 23, 59), "0.5"),
        (at(3, 0, 29), "0.5"),
        (at(3, 0, 30), "0"),
        (at(1, 0, 10), "0"),
        (at(10, 0, 10), "0.5"),
        (at(10, 17), "0"),
    ],
)
def test_a_window_past_midnight_belongs_to_the_day_on_which_it_opens(moment, off):
    assert discount([NIGHT], Lane.BATCH, moment) == Decimal(off)


def test_the_next_opening_is_today_tomorrow_or_the_first_day_and_none_while_it_is_open():
    assert next_opening([NIGHT], at(2, 12)) == at(2, 16, 30)
    assert next_opening([NIGHT], at(2, 18)) is None
    assert next_opening([NIGHT], at(9, 1)) == at(9, 16, 30)
    assert next_opening([NIGHT], at(10, 1)) is None
    assert next_opening([NIGHT], datetime(2026, 2, 1, tzinfo=UTC)) == at(1, 16, 30)
    assert next_opening([], at(2, 12)) is None


def test_of_windows_that_overlap_the_cheaper_one_counts():
    cheaper = NIGHT.model_copy(update={"discount": Decimal("0.75")})
    assert discount([NIGHT, cheaper], Lane.BATCH, at(2, 20)) == Decimal("0.75")


def test_a_window_is_for_batches_unless_it_names_its_lanes():
    windows, open_at = [NIGHT, CALLS], at(2, 20)
    found = [discount(windows, lane, open_at) for lane in (Lane.BATCH, Lane.DEFAULT, Lane.FLEX)]
    assert found == [Decimal("0.5"), Decimal("0.75"), 0]
    assert next_open([NIGHT], Lane.DEFAULT, at(2, 12)) is None


def test_hours_that_are_open_say_since_when_and_what_they_take_off():
    hours = open_now([CALLS], Lane.DEFAULT, at(3, 0, 10))
    assert (hours.opens, hours.closes) == (at(2, 16, 30), at(3, 0, 30))
    assert str(hours) == "off-peak from 16:30 UTC: 75% less"


def test_of_two_windows_a_day_the_next_one_counts():
    """Two blocks of dear hours in the morning, and the rest of the day at half of their price."""
    rest = OffPeak.model_validate({"from": "2026-03-01", "opens": "10:00", "closes": "01:00", "discount": "0.5"})
    pause = OffPeak.model_validate({"from": "2026-03-01", "opens": "04:00", "closes": "06:00", "discount": "0.5"})
    openings = [next_opening([rest, pause], at(2, hour)) for hour in (2, 5, 7, 12)]
    assert openings == [at(2, 4), None, at(2, 10), None]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lanes", []),
        ("lanes", ["cheap"]),
        ("closes", "16:30"),
        ("discount", "1"),
        ("discount", "0"),
        ("until", "2026-03-01"),
        ("opens", "16:30+02:00"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(field, value):
    given = NIGHT.model_dump(by_alias=True) | {field: value}
    with pytest.raises(ValidationError):
        OffPeak.model_validate(given)
