"""The fast sweep itself: it repeats, it reaches what it should, it holds, and it fails where a rule is missing.

The thousands of schedules are CI's own stage, ``make sweep``; here are as many as show that it can be trusted.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from datetime import timedelta

import pytest

from lowtide.core.batches import ProviderStatus
from lowtide_local.engine.crashes import Side
from tests.sweep.__main__ import RULES_SEED
from tests.sweep.campaign import chosen, sweep
from tests.sweep.ground import Ground, grounds
from tests.sweep.hunt import HUNTED, without
from tests.sweep.model_provider import Mishap
from tests.sweep.play import Play
from tests.sweep.removals import REMOVALS
from tests.sweep.schedules import FULL_DAY, LATE, QUIET, drawn, named, single, singles

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
    for schedule in (QUIET, LATE, single(17, Side.AFTER), single(17, Side.AFTER, LATE), drawn(5, 8)):
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
    for wanted in ("crew", "repeats", "stall", "flaky", "skew_s", "orders", "live", "crashes"):
        with_it = sum(bool(getattr(schedule, wanted)) for schedule in some)
        assert 20 < with_it < 180, f"{wanted} is in {with_it} of 200"


def test_after_any_call_that_changes_something_the_worker_may_die(ground):
    calls = Play(QUIET, ground).run().calls
    crashes = [schedule.crashes for schedule in singles(calls)]
    assert crashes[0] == {1: Side.BEFORE}
    passed_over = {name for number, name in enumerate(calls, start=1) if {number: Side.AFTER} not in crashes}
    assert {name.rpartition(".")[2] for name in passed_over} == {
        *("active", "get", "lines", "open", "find", "results", "owned"),
    }


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
    assert len(names) == len(set(names)) == 10_000
    assert names[-1].startswith("random/3/")


@pytest.mark.parametrize("rule", REMOVALS, ids=lambda rule: rule.name)
def test_without_a_rule_the_sweep_fails_and_with_it_the_same_schedules_hold(ground, rule):
    found = None
    for number in range(40 if rule.covered else HUNTED):
        schedule = drawn(RULES_SEED, number)
        assert Play(rule.sharpened(schedule), ground).run().faults == [], "with the rule, it holds"
        if without(rule, schedule, ground).faults:
            found = schedule.name
            break
    assert (found is None) == (rule.covered is not None)


def test_the_command_prints_one_line_of_figures_and_nothing_else_where_all_holds():
    done = _command("-n", str(FEW), "--seed", "4")
    assert done.returncode == 0
    assert re.fullmatch(
        r"sweep: 40 schedules, [\d,]+ crashes, [\d,]+ calls, [\d,]+ interleavings, [\d.]+ s, 0 failures\n", done.stdout
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    "wrong", [["--without", "look"], ["--replay", "random/x"], ["--replay", "quiet", "--without", "no"]]
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
