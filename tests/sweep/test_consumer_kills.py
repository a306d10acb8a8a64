"""``make sweep-consumer``: it kills at every call, calls overlap, it holds, and it fails where a rule is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from lowtide.core.tiers import Tier
from lowtide.ports import System
from lowtide_local.engine.crashes import Side
from tests.sweep.ground import Ground, grounds
from tests.sweep.hunt import removal
from tests.sweep.kills import kills
from tests.sweep.play import Play
from tests.sweep.removals import Removal
from tests.sweep.schedules import CONSUMER, REAL_TIME, consumer, consumers, named

FEW = 7
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
        self.total, self._put = ledger.total, ledger.put

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
        *("ledger.put", "replies.send", "events.send", "dead_letters.send"),
    }


def test_a_kill_in_the_middle_of_the_calls_finds_as_many_in_flight_as_there_are_slots():
    with grounds() as home, Ground(home) as ground:
        calls = Play(CONSUMER, ground).run().calls
        at = calls.index("answers.openai.answer") + 4
        outcome = Play(consumer(at, Side.BEFORE, voids=False), ground).run()
    assert (outcome.crashes, outcome.in_flight, outcome.faults) == (1, 4, [])


def test_every_call_is_died_at_on_both_sides_and_taken_up_in_both_ways():
    names = [schedule.name for schedule in consumers(3)]
    assert len(names) == len(set(names)) == 3 * 2 * 2
    assert all(named(name).name == name for name in [*names, CONSUMER.name])


def test_a_consumer_killed_at_any_call_loses_nothing_and_pays_again_for_what_was_in_flight_at_most():
    found = kills(every=3)
    assert found.failures == []
    assert (found.lost, found.dead, found.unaccounted, found.untold) == (0, 0, 0, 0)
    assert found.tasks == found.kills * len(REAL_TIME)
    assert found.again <= found.repaid
    assert found.again > 0, "some calls were in flight when their consumer died, and are paid twice"
    assert found.most_in_flight == 4


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
    done = subprocess.run(
        [sys.executable, "-m", "tests.sweep", "--consumer"], capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stdout
    assert re.fullmatch(
        r"sweep-consumer: [\d,]+ kills, [\d,]+ tasks, 0 lost, 0 dead because of it, [\d,]+ repaid \(at most 4 in "
        r"flight at a kill\), [\d,]+ billed again and 0 of them not counted, [\d.]+ s, 0 failures\n",
        done.stdout,
    )
