"""``make sweep-consumer``: it kills at every call, calls overlap, it holds, and it fails where a rule is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from lowtide.core.tiers import Tier
from lowtide.ports import System
from lowtide_local.engine.crashes import Side
from tests.sweep.ground import Ground, grounds
from tests.sweep.hunt import removal
from tests.sweep.kills import chosen, consumer_sweep, kills
from tests.sweep.play import Play
from tests.sweep.removals import Removal
from tests.sweep.schedules import (
    CONSUMER,
    REAL_TIME,
    TWICE,
    consumer,
    consumers,
    consumers_drawn,
    consumers_raised,
    named,
)

IN_FLIGHT = 5
"""Four calls of one model, and one more of another, which the slots keep free for it."""
MANY = 60
"""Schedules from all over the day; `make sweep-consumer` plays them all."""
FEW = 17
"""One kill in so many is enough to find what a missing rule does; prime, so that all four ways of dying are met."""


class Hasty:
    """A queue whose messages are deleted when they are received."""

    def __init__(self, queue) -> None:
        self._queue = queue
        self.send, self.delete, self.defer, self.depth = queue.send, queue.delete, queue.defer, queue.depth

    def receive(self, limit, *, visibility_s):
        messages = self._queue.receive(limit, visibility_s=visibility_s)
        self._queue.delete(messages)
        return messages


class Forgetful:
    """A ledger that keeps no count of what was repaid."""

    def __init__(self, ledger) -> None:
        self.total, self.add, self.standing, self._put = ledger.total, ledger.add, ledger.standing, ledger.put

    def put(self, entries):
        self._put([(name, receipt.model_copy(update={"repaid": 0})) for name, receipt in entries])


def deleting_first(system: System) -> System:
    return replace(system, tiers={**system.tiers, Tier.NORMAL: Hasty(system.tiers[Tier.NORMAL])})


def uncounted(system: System) -> System:
    return replace(system, ledger=Forgetful(system.ledger))


def test_the_day_without_a_kill_makes_every_kind_of_call_that_a_consumer_makes():
    with grounds() as home, Ground(home) as ground:
        outcome = Play(CONSUMER, ground).run()
    assert outcome.faults == []
    assert set(outcome.calls) == {
        *("normal.receive", "normal.defer", "normal.delete", "levels.mark", "paces.get", "paces.apply"),
        *("tasks.get", "tasks.apply", "answers.openai.answer"),
        *("ledger.put", "ledger.add"),
        *("replies.send", "events.send", "dead_letters.send", "callbacks.send"),
        *("objects.put", "objects.get"),
    }


def test_a_kill_in_the_middle_of_the_calls_finds_as_many_in_flight_as_there_are_slots():
    with grounds() as home, Ground(home) as ground:
        calls = Play(CONSUMER, ground).run().calls
        at = calls.index("answers.openai.answer") + 4
        outcome = Play(consumer(at, Side.BEFORE, voids=False), ground).run()
    assert (outcome.crashes, outcome.in_flight, outcome.faults) == (1, IN_FLIGHT, [])


def test_every_call_is_died_at_on_both_sides_and_taken_up_in_both_ways():
    names = [schedule.name for schedule in consumers(3)]
    assert len(names) == len(set(names)) == 3 * 2 * 2
    assert all(named(name).name == name for name in [*names, CONSUMER.name])


def test_every_call_that_can_raise_does_so_in_each_way_and_for_minutes():
    names = [schedule.name for schedule in consumers_raised(["normal.receive", "levels.mark", "ledger.put"])]
    assert names == [
        *(f"consumer/1/raised/{how}" for how in ("before", "after", "lasting")),
        *(f"consumer/3/raised/{how}" for how in ("before", "after", "partly", "lasting")),
    ]
    assert [named(name).name for name in names] == names


def test_the_day_has_a_long_answer_a_question_and_copies_with_sleepers_of_their_own():
    with grounds() as home, Ground(home) as ground:
        play = Play(CONSUMER, ground)
        assert play.run().faults == []
        rows = {row.task_id: row for row in play.engine.tasks.scan()}
        assert rows["long"].pointer is not None, "its answer is in an object"
        assert rows["asks"].choice is not None
        tokens = {callback.token for callback in play.callbacks.sent}
        assert len(play.copies) == len(TWICE) == play.engine.ledger.total().duplicates
    assert tokens == {task.task_token for task in (*play.tasks, *play.copies)}


def test_drawn_days_have_two_consumers_batches_beside_them_and_everything_that_fails():
    some = [consumers_drawn(1, number) for number in range(100)]
    assert all(named(schedule.name) == schedule for schedule in some[:5])
    for wanted in ("crew", "crashes", "troubles", "unwell", "refused_s", "stall", "asked", "repeats"):
        with_it = sum(bool(getattr(schedule, wanted)) for schedule in some)
        assert 10 < with_it < 90, f"{wanted} is in {with_it} of 100"
    assert Counter(schedule.consumers for schedule in some)[2] > 50


def test_consumers_killed_or_refused_at_any_call_lose_nothing_and_pay_again_for_what_was_in_flight_at_most():
    found = consumer_sweep(chosen(MANY, 4), 1)
    assert found.failures == []
    assert (found.lost, found.dead, found.unaccounted, found.untold) == (0, 0, 0, 0)
    assert found.schedules == MANY
    assert found.tasks == MANY * len((*REAL_TIME, *CONSUMER.asked))
    assert found.again <= found.repaid
    assert found.again > 0, "some calls were in flight when their consumer died, and are paid twice"
    assert found.raised > 2 * MANY
    assert found.most_in_flight == IN_FLIGHT


def test_more_schedules_than_single_ones_are_drawn_from_the_seed():
    assert [name for name in chosen(1_000, 8) if name.startswith("consumers/")][:2] == [
        "consumers/8/0",
        "consumers/8/1",
    ]


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (
            Removal("delete-last", "a message is deleted when its tasks are settled", system_of=deleting_first),
            "move it",
        ),
        (Removal("count", "the ledger counts what was repaid", system_of=uncounted), "the ledger says"),
        (removal("one-write"), "no end to it"),
        (removal("6-repaid"), "are counted as repaid"),
    ],
    ids=lambda value: value.name if isinstance(value, Removal) else "",
)
def test_without_a_rule_kills_break_a_promise(rule, fault):
    found = kills(rule, every=FEW)
    assert any(fault in told for _, told in found.failures), found.failures[:3]


def test_the_command_prints_one_line_of_figures():
    arguments = ["--consumer", "-n", "40", "--seed", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.sweep", *arguments], capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stdout
    assert re.fullmatch(
        r"sweep-consumer: 40 schedules, [\d,]+ kills, [\d,]+ raised, 440 tasks, 0 lost, 0 dead because of it, "
        rf"0 untold, [\d,]+ repaid \(at most {IN_FLIGHT} in flight at a kill\), [\d,]+ billed again and 0 of them not "
        r"counted, [\d.]+ s, 0 failures\n",
        done.stdout,
    )
