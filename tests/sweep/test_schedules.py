"""The fast sweep itself: it repeats, it reaches what it should, it holds, and it fails where a rule is missing.

The thousands of schedules are CI's own stage, ``make sweep``; here are as many as show that it can be trusted.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from random import Random

import pytest

from lowtide.core.batches import ProviderStatus
from lowtide_local.engine.crashes import Side
from tests.sweep import __main__ as command
from tests.sweep.__main__ import RULES_SEED
from tests.sweep.campaign import chosen, sweep
from tests.sweep.ground import Ground, grounds
from tests.sweep.hunt import HUNTED, RULES, without
from tests.sweep.model_provider import Mishap
from tests.sweep.play import Play
from tests.sweep.schedules import (
    CONSUMER,
    FULL_DAY,
    LATE,
    QUIET,
    Schedule,
    consumer_raised,
    drawn,
    named,
    raised,
    raised_singles,
    single,
    singles,
)
from tests.sweep.troubles import How, Trouble, Troubles, raises, service_of

FEW = 40


@pytest.fixture(scope="module")
def ground():
    with grounds() as home, Ground(home) as made:
        yield made


def test_a_schedule_plays_the_same_way_every_time(ground):
    crowded = [number for number in range(FEW) if drawn(1, number).crew == 2][:5]
    for number in crowded:
        first, second = (Play(drawn(1, number), ground).run() for _ in range(2))
        assert first == second
        assert first.switches > 0


def test_a_schedule_is_found_again_by_its_name():
    singles = [
        single(17, Side.AFTER),
        single(17, Side.AFTER, LATE),
        raised(17, How.PARTLY),
        raised(17, How.AFTER, LATE),
    ]
    for schedule in (QUIET, LATE, *singles, drawn(5, 8)):
        assert named(schedule.name) == schedule
    with pytest.raises(ValueError, match="names no schedule"):
        named("random/1")


def test_the_quiet_day_makes_every_kind_of_call_and_meets_every_mark(ground):
    played = Play(QUIET, ground)
    outcome = played.run()
    assert outcome.faults == []
    assert set(outcome.calls) >= {
        *("low.receive", "low.delete", "objects.put", "objects.lines", "objects.open", "dead_letters.send"),
        *("tasks.apply", "parts.apply", "batches.apply", "ledger.put"),
        *(f"batch_apis.openai.{name}" for name in ("prepare", "create", "find", "get", "results", "clean", "owned")),
    }
    assert played.provider.mishaps == [], "every one of them befell a creation"
    ends = Counter(row.state.value for row in played.engine.tasks.scan())
    assert ends == {"answered": 6, "dead": 4}
    assert len(FULL_DAY) == ends.total()


def test_the_late_day_rescues_one_batch_in_part_and_gives_another_up(ground):
    played = Play(LATE, ground)
    assert played.run().faults == []
    assert played.provider.mishaps == []
    first, second, third = played.engine.batches.scan()
    assert (first.provider_batch.status, first.released) == (ProviderStatus.CANCELLED, False)
    assert first.tally.answered > 0
    assert first.tally.rescued > 0
    assert second.released
    assert second.collected_at - second.submitted_at >= timedelta(hours=48)
    assert second.tally.retried > 0
    assert (third.rescued_at, third.tally.answered) == (None, second.tally.retried)
    repaid = {row.task_id for row in played.engine.tasks.scan() if row.repaid}
    assert len(repaid) == second.tally.retried + second.tally.rescued


def test_the_drawn_schedules_have_everything_in_them(ground):
    some = [drawn(1, number) for number in range(200)]
    assert {mishap for schedule in some for mishap in schedule.mishaps} == set(Mishap)
    assert {task for schedule in some for task in schedule.tasks} == set(FULL_DAY)
    for wanted in ("crew", "repeats", "stall", "flaky", "skew_s", "orders", "live", "crashes", "troubles", "refused_s"):
        with_it = sum(bool(getattr(schedule, wanted)) for schedule in some)
        assert 10 < with_it < 180, f"{wanted} is in {with_it} of 200"
    troubles = [trouble for schedule in some for trouble in schedule.troubles]
    assert {trouble.calls for trouble in troubles} >= {1, 5, 20}
    assert {trouble.seconds for trouble in troubles} == {0.0, 60.0, 600.0}


def test_a_call_of_every_service_raises_in_each_way_and_every_promise_holds(ground):
    """The last such call of a worker's day, and of a consumer's."""
    days: dict[tuple[str | None, How], Schedule] = {}
    for day, raising in ((QUIET, raised), (CONSUMER, consumer_raised)):
        for number, name in enumerate(Play(day, ground).run().calls, start=1):
            days |= {(service_of(name), how): raising(number, how) for how in raises(name)}
    services = {"table", "queues", "objects", "events", "callbacks", "replies", "provider"}
    assert {service for service, how in days if how is How.BEFORE} == services
    assert {service for service, how in days if how is How.AFTER} == services
    assert {service for service, how in days if how is How.PARTLY} == services - {"objects", "provider"}
    for schedule in days.values():
        outcome = Play(schedule, ground).run()
        assert (outcome.raised, outcome.faults) == (1, []), schedule.name


def test_a_service_in_trouble_raises_for_as_many_calls_and_as_long_as_the_schedule_says():
    now = [0.0]
    troubles = Troubles([Trouble(2, How.BEFORE, calls=3), Trouble(9, None, seconds=60.0)], Random(1), lambda: now[0])
    raised = [troubles.at(number, "tasks.apply" if number != 4 else "normal.send") for number in range(1, 8)]
    assert [raises is not None for raises in raised] == [False, True, True, False, True, False, False]
    assert troubles.at(9, "normal.receive") is not None
    now[0] = 59.0
    assert troubles.at(10, "intake.send") is not None
    assert troubles.at(11, "tasks.apply") is None
    now[0] = 60.0
    assert troubles.at(12, "normal.receive") is None
    assert troubles.raised == 5


def test_of_several_items_some_take_effect_and_the_caller_is_told_which_where_the_port_can_say():
    done: list[str] = []

    def send(items):
        done.extend(items)

    raises = Troubles([Trouble(1, How.PARTLY)], Random(1), lambda: 0.0).at(1, "normal.send")
    assert raises is not None
    with pytest.raises(type(raises.error)):
        raises.instead_of("normal.send", send, ["a", "b", "c"])
    assert 0 < len(done) < 3
    assert [*raises.failed(["a", "b", "c"])] == [each for each in "abc" if each not in done]


def test_after_any_call_that_changes_something_the_worker_may_die(ground):
    calls = Play(QUIET, ground).run().calls
    crashes = [schedule.crashes for schedule in singles(calls)]
    assert crashes[0] == {1: Side.BEFORE}
    passed_over = {name for number, name in enumerate(calls, start=1) if {number: Side.AFTER} not in crashes}
    assert {name.rpartition(".")[2] for name in passed_over} == {
        *("active", "get", "lines", "open", "find", "results", "owned"),
    }


def test_each_call_that_can_raise_is_raised_at_in_each_way(ground):
    calls = Play(QUIET, ground).run().calls
    ways = [schedule.troubles[0] for schedule in raised_singles(calls)]
    assert {trouble.at for trouble in ways} == {
        number for number, name in enumerate(calls, start=1) if service_of(name) is not None
    }
    by_call = {name: {each.how for each in ways if each.at == number} for number, name in enumerate(calls, start=1)}
    assert by_call["tasks.apply"] == set(How)
    assert by_call["objects.put"] == {How.BEFORE, How.AFTER}
    assert by_call["objects.get"] == {How.BEFORE}


def test_figures_do_not_depend_on_how_many_processes_come_to_them():
    names = [f"random/1/{number}" for number in range(FEW)]
    alone, together = sweep(names, 1), sweep(names, 2)
    together.seconds = alone.seconds
    assert alone == together
    assert alone.schedules == FEW
    assert alone.failures == []


def test_the_sweep_begins_with_every_single_crash():
    names = chosen(10_000, 3)
    assert names[:2] == ["quiet", "single/1/before"]
    assert names.index("late/1/before") == names.index("late") + 1 < 1_000
    assert sum("/raised/" in name for name in names) > 50
    assert len(names) == len(set(names)) == 10_000
    assert names[-1].startswith("random/3/")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_without_a_rule_the_sweep_fails_and_with_it_the_same_schedules_hold(ground, rule):
    found = None
    for number in range(40 if rule.covered else HUNTED):
        schedule = drawn(RULES_SEED, number)
        if without(rule, schedule, ground).faults:
            assert Play(rule.sharpened(schedule), ground).run().faults == [], "with the rule, it holds"
            found = schedule.name
            break
    assert (found is None) == (rule.covered is not None)


def test_the_command_prints_one_line_of_figures_and_nothing_else_where_all_holds():
    done = _command("-n", str(FEW), "--seed", "4")
    assert done.returncode == 0
    assert re.fullmatch(
        r"sweep: 40 schedules, [\d,]+ crashes, [\d,]+ raised, [\d,]+ calls, [\d,]+ interleavings, [\d.]+ s, "
        r"0 failures\n",
        done.stdout,
    )
    assert done.stderr == ""


@pytest.mark.parametrize(("consumer", "goal"), [(False, "sweep"), (True, "sweep-consumer")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_cut_off_prints_its_figures_and_how_to_go_on(monkeypatch, capsys, number, consumer, goal):
    """Told to end when its first schedules are done, it says what these came to."""
    monkeypatch.setattr(command, "_quietly", lambda done, of: os.kill(os.getpid(), number))
    arguments = ["-n", "50", "--seed", "4", "--from", "3", "--processes", "1", *(["--consumer"] if consumer else [])]
    monkeypatch.setattr(sys, "argv", ["sweep", *arguments])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert command.main() == 128 + number
    figures, told = capsys.readouterr().out.splitlines()
    assert re.match(rf"{goal}: 10 schedules, ", figures)
    assert figures.endswith("0 failures")
    assert told == (
        f"cut off by {number.name} after 10 of 47 schedules of seed 4; to go on: make {goal} N=50 SEED=4 FROM=13"
    )


def test_a_sweep_that_goes_on_plays_the_rest():
    done = _command("-n", "30", "--seed", "4", "--from", "25")
    assert done.returncode == 0
    assert done.stdout.startswith("sweep: 5 schedules, ")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--without", "look"],
        ["--replay", "random/x"],
        ["--replay", "quiet", "--without", "no"],
        ["-n", "0"],
        ["--from", "-1"],
    ],
)
def test_what_would_be_played_with_every_rule_or_not_at_all_is_refused(wrong):
    done = _command(*wrong)
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failing_schedule_is_replayed_by_its_name_and_exits_1():
    done = _command("--replay", "random/5/0", "--without", "5-name")
    assert done.returncode == 1
    assert "batch-theirs is another's, and was touched" in done.stdout


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.sweep", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
