"""Levels on SQS and the table: how many wait, for how long, and how seldom that is asked."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from aws_cases import NOW

from lowtide.adapters.aws.levels import QueueLevels
from lowtide.core.admission import Level
from lowtide.core.errors import LowtideError
from lowtide.core.tiers import Tier
from lowtide.ports import Depth
from tests.contract.aws import TABLE


class HandClock:
    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def pass_time(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class DeepQueue:
    """Of a ports.Queue, what levels ask of it."""

    def __init__(self) -> None:
        self.visible = 0
        self.asked = 0

    def depth(self) -> Depth:
        self.asked += 1
        return Depth(visible=self.visible, in_flight=7, delayed=7)


def levels_of(aws):
    queue, clock = DeepQueue(), HandClock()
    return QueueLevels({Tier.HIGH: queue}, aws.table(), clock), queue, clock


def look(levels) -> Level:
    return levels.look([Tier.HIGH])[Tier.HIGH]


def test_what_waits_ages_from_when_the_queue_was_last_seen_empty(aws):
    levels, queue, clock = levels_of(aws)
    assert look(levels) == Level(0)
    queue.visible = 3
    clock.pass_time(20)
    assert look(levels) == Level(3, 15.0)


def test_what_waits_is_as_old_as_what_was_taken_up_last_and_the_time_since(aws):
    levels, queue, clock = levels_of(aws)
    queue.visible = 3
    levels.mark(Tier.HIGH, 40.0)
    clock.pass_time(10)
    assert look(levels) == Level(3, 45.0)


def test_an_idle_night_makes_nothing_old(aws):
    levels, queue, clock = levels_of(aws)
    levels.mark(Tier.HIGH, 1.0)
    clock.pass_time(8 * 3600)
    assert look(levels) == Level(0)
    queue.visible = 5
    clock.pass_time(6)
    assert look(levels) == Level(5, 1.0)


def test_without_any_mark_age_begins_now(aws):
    levels, queue, clock = levels_of(aws)
    queue.visible = 5
    assert look(levels) == Level(5, 0.0)
    clock.pass_time(30)
    assert look(levels) == Level(5, 25.0)


def test_another_process_sees_the_marks_of_this_one(aws):
    levels, queue, clock = levels_of(aws)
    levels.mark(Tier.HIGH, 40.0)
    other = QueueLevels({Tier.HIGH: queue}, aws.table(), clock)
    queue.visible = 1
    assert look(other) == Level(1, 40.0)


def test_a_process_looks_and_marks_once_in_five_seconds(aws):
    levels, queue, clock = levels_of(aws)
    queue.visible = 1
    for second in range(10):
        levels.mark(Tier.HIGH, float(second))
        look(levels)
        clock.pass_time(1)
    assert queue.asked == 2
    [item] = aws.dynamodb.scan(TableName=TABLE)["Items"]
    assert '"oldest_s":5.0' in item["body"]["S"]


def test_a_table_that_does_not_answer_costs_a_mark_and_is_told_by_a_look(aws):
    levels, _, _ = levels_of(aws)
    aws.dynamodb.delete_table(TableName=TABLE)
    levels.mark(Tier.HIGH, 1.0)
    with pytest.raises(LowtideError, match="could not be asked"):
        look(levels)
