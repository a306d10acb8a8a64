"""The metrics add up to the ledger and the rows, whatever comes again: money, tasks, attempts, dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lowtide.core.tiers import Tier
from lowtide.steps.cancel import cancel_tasks
from lowtide.steps.redrive import redrive
from lowtide_local.engine.crashes import Crash, CrashPlan, Side, every_crash
from tests.steps.one_tier import answered, begin
from tests.sweep.counts import uncounted
from tests.sweep.world import Dies, Life, World, later, task

COUNTED_FROM = ("tasks.apply", "ledger.add")
"""The two writes whose first effect is counted."""


def draft(name: str, text: str = "Hello.", **fields: Any) -> dict[str, Any]:
    return task(name, "email_draft", text, **fields)


def page(name: str, text: str = "Hello.") -> dict[str, Any]:
    return task(name, "content_generation", text)


def pack(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"tasks": list(tasks)}


def missing(world: World, story: Callable[[Life], Awaitable[None]] | None = None) -> dict[str, float]:
    """What was counted too little (above zero) or too often, once the story is over."""

    async def look(life: Life) -> dict[str, float]:
        if story is not None:
            await story(life)
        return dict(uncounted(world.metrics, life.system, life.engine))

    return world.live(look)


MESSAGES: dict[str, tuple[object, ...]] = {
    "nine answers beside one that fails twice": (
        pack(*(draft(f"a{number}") for number in range(9)), draft("slow", "[sim:500-twice]")),
    ),
    "nine deaths beside one that fails twice": (
        pack(*(draft(f"d{number}", "[sim:400]") for number in range(9)), draft("slow", "[sim:500-twice]")),
    ),
    "nine deaths beside one that is limited": (
        pack(*(draft(f"d{number}", "[sim:400]") for number in range(9)), draft("slow", "[sim:429-twice]")),
    ),
    "a billed answer of no use": (draft("a", "[sim:misfit]"), draft("b", "[sim:misfit-once]")),
    "second copies": (draft("a"), draft("a"), pack(draft("a"), draft("b", "[sim:500-once]")), draft("b")),
    "a conflict, and no task at all": (draft("a"), draft("a", "Something else."), "{no JSON", pack(draft("c"), {})),
    "a batch": (page("a"), page("b", "[sim:refuse]"), page("c", "[sim:500-once]"), page("d", "[sim:missing-once]")),
    "a batch that expires": (page("a", "[sim:expire-once]"), page("b")),
    "every tier": (
        task("now", "live_chat_response"),
        draft("soon"),
        task("then", "meeting_summary", "[sim:500-once]"),
        page("later", "[sim:400]"),
    ),
}


@pytest.mark.parametrize("sent", MESSAGES)
def test_the_metrics_add_up_to_the_ledger_and_the_rows(tmp_path, sent):
    world = World(tmp_path)
    world.publish(*MESSAGES[sent])
    assert world.work()
    assert missing(world) == {}


@pytest.mark.parametrize("sent", [name for name in MESSAGES if "deaths" in name])
def test_a_death_sends_one_letter_however_often_its_message_comes_again(tmp_path, sent):
    world = begin(tmp_path, *MESSAGES[sent])

    async def story(life: Life) -> None:
        await answered(life)
        assert sorted(letter["task"]["task_id"] for letter in life.letters()) == [f"d{n}" for n in range(9)]

    world.live(story)
    assert world.metrics.total("dead_letters") == 9


@pytest.mark.parametrize("times", [2, 5])
def test_a_message_that_is_delivered_again_after_its_end_counts_nothing_and_sends_no_letter(tmp_path, times):
    world = begin(tmp_path, pack(draft("a"), draft("b", "[sim:400]")), draft("a", "Something else."))

    async def story(life: Life) -> None:
        life.accept()
        for _ in range(times):
            # As where the reply of the deletion was lost, or the queue delivers it twice.
            await answer_without_deleting(life, Tier.HIGH)
            await life.pass_time(700)
        await answered(life)
        assert len(life.letters()) == 2

    assert missing(world, story) == {}
    assert (world.metrics.total("dead_letters"), world.metrics.total("refused")) == (2, 1)


async def answer_without_deleting(life: Life, tier: Tier) -> None:
    queue = life.system.tiers[tier]
    deleted = type("Kept", (), {"__getattr__": lambda _, name: getattr(queue, name), "delete": lambda *_: None})()
    life.system.tiers[tier] = deleted  # type: ignore[index]
    try:
        await life.answer(tier)
    finally:
        life.system.tiers[tier] = queue  # type: ignore[index]


def test_a_redriven_task_counts_each_of_its_ends_and_its_money_once(tmp_path):
    world = begin(tmp_path, draft("a", "[sim:misfit-once]"), draft("b", "[sim:refuse-once]"))

    async def story(life: Life) -> None:
        await answered(life)
        redrive(life.system, [("default", "a"), ("default", "b")])
        redrive(life.system, [("default", "a"), ("default", "b")])
        await answered(life)

    assert missing(world, story) == {}
    assert world.metrics.total("tasks_settled", status="dead") >= 1
    assert world.metrics.total("tasks_accepted") == 2


@pytest.mark.parametrize("state", ["queued", "staged"])
def test_a_cancel_that_is_given_twice_counts_once(tmp_path, state):
    world = begin(tmp_path, page("a"), page("b"))

    async def story(life: Life) -> None:
        life.accept()
        if state != "queued":
            await life.assemble()
        cancel_tasks(life.system, [("default", "a")])
        cancel_tasks(life.system, [("default", "a")])
        await life.finish()
        cancel_tasks(life.system, [("default", "a")])

    assert missing(world, story) == {}
    assert world.metrics.total("tasks_settled", status="cancelled") == 1


def small_day(directory: Any) -> World:
    world = World(directory)
    texts = {"a": "Hello.", "b": "[sim:400]", "c": "[sim:500-once]"}
    world.publish(
        pack(*(draft(name, text) for name, text in texts.items())), draft("a"), page("d"), page("e", "[sim:400]"), "{"
    )
    return world


def test_a_crash_takes_from_the_metrics_what_one_write_brought_and_nothing_is_ever_counted_twice(tmp_path):
    clean, plan = small_day(tmp_path / "clean"), CrashPlan()
    assert clean.work(plan)
    assert missing(clean) == {}
    lost = {}
    for each in every_crash(len(plan.calls)):
        call = plan.calls[each.at - 1]
        if call not in COUNTED_FROM and (each.side is Side.AFTER or each.at % 5):
            continue  # to die after it is to die before the next
        world = small_day(tmp_path / f"{each.at}-{each.side.name}")
        assert not world.work(each)
        later(world.clock, 1_000)
        assert world.work()
        found = missing(world)
        assert all(amount > 0 for amount in found.values()), f"{each}: counted too often {found}"
        if found:
            lost[each.at, each.side] = found
    assert lost, "this day shows what a crash may take"
    assert {(plan.calls[at - 1], side) for at, side in lost} <= {(call, Side.AFTER) for call in COUNTED_FROM}
    most = max(found.get("tasks_settled", 0) + found.get("tasks_accepted", 0) for found in lost.values())
    assert most <= 3, "no more than were in one write"


@pytest.mark.parametrize("call", COUNTED_FROM)
def test_what_dies_before_its_write_is_counted_by_its_successor(tmp_path, call):
    world = begin(tmp_path, draft("a"), draft("a"))
    with pytest.raises(Crash):
        world.live(answered, Dies(call, Side.BEFORE))
    later(world.clock, 700)
    assert missing(world, answered) == {}
