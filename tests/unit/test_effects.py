"""What a change of a task's row adds to the metrics: the difference that it makes, and nothing when it is repeated."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.acceptance import accept
from lowtide.core.cancellations import cancelled
from lowtide.core.effects import effects
from lowtide.core.endings import Ending
from lowtide.core.lanes import Lane
from lowtide.core.records import Pointer, Status
from lowtide.core.task import AcceptedTask
from lowtide.core.task_rows import ModelChoice
from lowtide.core.tasks import (
    Cancel,
    Carry,
    Choose,
    ClaimCall,
    ClaimPart,
    Decision,
    Free,
    Onward,
    Redrive,
    Release,
    Restage,
    Settle,
    Strikes,
    TaskEvent,
    TaskRow,
    transition,
)

NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)
ROUTES = shipped_routes()
POINTER = Pointer(key="results/b/00000-x.jsonl", offset=0, length=9)
PAID = Ending(cost_usd=Decimal("0.25"), list_cost_usd=Decimal("0.5"), latency_s=12.0)

Steps = list[tuple[TaskEvent, int]]


def task(kind: str = "content_generation") -> AcceptedTask:
    request = {"url": "/v1/chat/completions", "body": {"model": "gpt-5-mini", "messages": [{"role": "user"}]}}
    raw = {"task_id": "a", "type": kind, "request": request}
    raw["request"]["body"]["messages"][0]["content"] = "Hello."
    return accept(raw, origin="m/0", sent_at=NOW, routes=ROUTES)


TASK = task()


def counted(*steps: TaskEvent | tuple[TaskEvent, timedelta], twice: bool = False) -> Counter[str]:
    """The sums of what these events count, one after the other on one row; each twice where so wished."""
    row: TaskRow | None = None
    sums: Counter[str] = Counter()
    for step in steps:
        event, after = step if isinstance(step, tuple) else (step, timedelta())
        for _ in range(2 if twice else 1):
            decision = transition(row, event, NOW + after)
            row = decision.row
            for count in effects(event, decision):
                assert count.value >= 0
                sums[count.name] += count.value
    return +sums


def settle(status: Status = Status.ANSWERED, **changes: object) -> Settle:
    given = {"holders": frozenset({"p"}), "attempt": 1, "status": status, "lane": Lane.BATCH, "pointer": POINTER}
    return Settle(**{**given, "ending": PAID, **changes})  # type: ignore[arg-type]


CLAIM = ClaimPart(TASK, "p")
CALL = ClaimCall(TASK, "c", NOW + timedelta(seconds=60))
AGAIN = Restage(1, frozenset({"p"}), "r", Strikes(failures=1))
FREED = Free(frozenset({"p"}), "b", attempt=1, strikes=Strikes())
RELEASED = Release("c", 1, NOW, Strikes(failures=1))

CHOICE = ModelChoice(profile="simple", model="gpt-5-nano", reason="short")
CHOSEN = Choose("c", 1, CHOICE, Onward.BATCH)

LIVES: dict[str, tuple[list[TaskEvent | tuple[TaskEvent, timedelta]], dict[str, float]]] = {
    "answered in a batch": (
        [CLAIM, settle()],
        {"tasks_accepted": 1, "attempts": 1, "tasks_settled": 1, "cost_usd": 0.25, "list_cost_usd": 0.5}
        | {"latency_s": 12.0},
    ),
    "answered late": (
        [CLAIM, settle(ending=replace(PAID, late=True))],
        {"tasks_accepted": 1, "attempts": 1, "tasks_settled": 1, "cost_usd": 0.25, "list_cost_usd": 0.5}
        | {"latency_s": 12.0, "tasks_late": 1},
    ),
    "dead": (
        [CLAIM, settle(Status.DEAD, ending=Ending(cost_usd=Decimal("0.1")))],
        {"tasks_accepted": 1, "attempts": 1, "tasks_settled": 1, "dead_letters": 1, "cost_usd": 0.1},
    ),
    "in a retry part": ([CLAIM, AGAIN], {"tasks_accepted": 1, "attempts": 2}),
    "carried": ([CLAIM, Carry(frozenset({"p"}), "q")], {"tasks_accepted": 1, "attempts": 1}),
    "perhaps billed, and again": ([CLAIM, replace(AGAIN, unsure=1)], {"tasks_accepted": 1, "attempts": 2, "repaid": 1}),
    "rescued": ([CLAIM, FREED], {"tasks_accepted": 1, "attempts": 1, "tasks_rescued": 1}),
    "asked about, for a batch": (
        [CALL, CHOSEN, CLAIM],
        {"tasks_accepted": 1, "attempts": 2, "attempts_returned": 1},
    ),
    "asked about, and called": (
        [CALL, replace(CHOSEN, onward=Onward.CALL)],
        {"tasks_accepted": 1, "attempts": 1},
    ),
    "given back by its call": ([CALL, RELEASED], {"tasks_accepted": 1, "attempts": 1}),
    "taken over from a dead caller": (
        [CALL, (ClaimCall(TASK, "d", NOW + timedelta(seconds=200)), timedelta(seconds=100))],  # then it is busy
        {"tasks_accepted": 1, "attempts": 2, "repaid": 1},
    ),
    "cancelled in its part": (
        [CLAIM, Cancel("default", "a", TASK)],
        {"tasks_accepted": 1, "attempts": 1, "tasks_settled": 1},
    ),
    "cancelled before it came": ([Cancel("default", "a"), CLAIM], {"tasks_accepted": 1, "tasks_settled": 1}),
    "cancelled and never met": ([Cancel("default", "a")], {}),
    "answered in vain": (
        [CLAIM, Cancel("default", "a", TASK), settle()],
        {"tasks_accepted": 1, "attempts": 1, "tasks_settled": 1, "repaid": 1},
    ),
    "too late an attempt": ([CLAIM, AGAIN, settle()], {"tasks_accepted": 1, "attempts": 2}),
}


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_a_life_counts_the_same_however_often_each_of_its_steps_is_repeated(life, twice):
    steps, wanted = LIVES[life]
    assert counted(*steps, twice=twice) == Counter(wanted)


def test_what_changes_nothing_counts_nothing():
    row = transition(transition(None, CLAIM, NOW).row, settle(), NOW).row
    assert list(effects(settle(), Decision(transition(row, settle(), NOW).verdict, row))) == []


def test_every_count_of_a_task_is_of_its_own_tier():
    decision = transition(None, ClaimCall(task("live_chat_response"), "c", NOW), NOW)
    assert {count.dimensions["tier"] for count in effects(CALL, decision)} == {"CRITICAL"}


def test_a_redriven_task_adds_only_what_its_new_life_cost():
    redriven = TASK.model_copy(update={"generation": 1, "spent_usd": Decimal("0.1")})
    document = cancelled(redriven, attempts=2, spent_usd=Decimal("0.35"), now=NOW)
    assert Ending.of(redriven, document).cost_usd == Decimal("0.25")
    first = TASK.model_copy(update={"spent_usd": Decimal("0.1")})
    assert Ending.of(first, document).cost_usd == Decimal("0.35"), "a question's price was counted nowhere yet"


def test_a_redriven_task_whose_cost_is_not_known_takes_nothing_back():
    redriven = TASK.model_copy(update={"generation": 1, "spent_usd": Decimal("0.1"), "unpriced": True})
    assert Ending.of(redriven, cancelled(redriven, attempts=2, spent_usd=None, now=NOW)).cost_usd == 0


def test_a_redrive_is_no_second_acceptance_and_no_attempt_until_it_is_claimed():
    dead = transition(transition(None, CLAIM, NOW).row, settle(Status.DEAD), NOW).row
    again = TASK.model_copy(update={"generation": 1})
    event = Redrive(again, Decimal(0))
    assert list(effects(event, transition(dead, event, NOW))) == []
