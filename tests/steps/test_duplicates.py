"""A task sent twice is one task and one duplicate, whichever copy brought its answer, and every sleeper is told."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from lowtide.core.outward import Success
from lowtide.core.receipts import Receipt
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Message, Outgoing
from lowtide.steps.answer import answer
from lowtide.steps.cancel import cancel_tasks
from lowtide.steps.carry import read_tasks, send_tasks
from lowtide.steps.deliver import Delivery, count
from lowtide.steps.drain import drain
from lowtide.steps.redrive import redrive
from lowtide.steps.rescue import rescue_parts
from lowtide.steps.salvage import salvage
from lowtide.steps.slots import Slots
from lowtide_local.engine.crashes import Crash, Side
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.steps.books import faults
from tests.steps.test_asking import asking, paying
from tests.sweep.world import Dies, Life, World, later, task

CALL = "answers.openai.answer"
REPLY_TO = "https://queue/replies"
URGENT, BATCHED = "email_draft", "content_generation"
LARGE = {"note": "x" * 120_000}
"""Tags that make of any record one that no row keeps."""
X = [("default", "x")]
REPORT = paying("x", "report_generation")


def sent(life: Life, asked: dict[str, Any], *tokens: str | None, together: bool = False) -> None:
    """A copy of the task for each token, in messages of their own. ``together``: ingest packs them into one."""
    for token in tokens:
        attributes = {} if token is None else {"task_token": token}
        life.system.intake.send([Outgoing(orjson.dumps(asked).decode(), attributes=attributes)])
        if not together:
            life.accept()
    life.accept()


def urgent(text: str = "Hello.", **fields: Any) -> dict[str, Any]:
    return task("x", URGENT, text, reply_to=REPLY_TO, **fields)


def batched(text: str = "Hello.", **fields: Any) -> dict[str, Any]:
    return task("x", BATCHED, text, reply_to=REPLY_TO, **fields)


def hand(life: Life, tier: Tier = Tier.HIGH) -> list[Message]:
    """What is visible, in the order in which it was sent."""
    return sorted(life.system.tiers[tier].receive(10, visibility_s=60), key=_number)


def _number(message: Message) -> int:
    return int(message.id.rpartition("-")[2])


async def work(life: Life, messages: list[Message], tier: Tier = Tier.HIGH) -> None:
    """One invocation of the tier's consumer."""
    report = await answer(life.system, tier, messages, slots=Slots(4))
    life.system.tiers[tier].delete(report.done)


async def until_empty(life: Life, tier: Tier = Tier.HIGH, *, last_first: bool = False) -> None:
    """Invocations with one message each until nothing is on the tier's queue."""
    for _ in range(60):
        if not life.waiting(tier):
            return
        for message in sorted(hand(life, tier), key=_number, reverse=last_first):
            await work(life, [message], tier)
        await life.pass_time(120)
    raise AssertionError(f"there is no end to {tier}")


def woken(world: World) -> dict[str, str]:
    """What each token was told first: nobody hears a second time."""
    told: dict[str, str] = {}
    for each in world.callbacks.sent:
        told.setdefault(each.token, "answered" if isinstance(each.told, Success) else each.told.error)
    return told


def counted(life: Life) -> tuple[int, int]:
    total = life.engine.ledger.total()
    return total.tasks, total.duplicates


ENDS = {
    "answered": ("[sim:500-once]", {}, "answered"),
    "answered at length": ("[sim:500-once]", {"tags": LARGE}, "answered"),
    "dead": ("[sim:500-once][sim:refuse]", {}, "content_policy_violation"),
    "dead at length": ("[sim:500-once][sim:refuse]", {"tags": LARGE}, "content_policy_violation"),
}


@pytest.mark.parametrize("last_first", [False, True])
@pytest.mark.parametrize(("text", "fields", "end"), ENDS.values(), ids=ENDS)
def test_after_a_try_that_failed_either_copy_ends_the_task_and_the_other_is_counted_and_told(
    tmp_path, text, fields, end, last_first
):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, urgent(text, **fields), "first", "second")
        for message in hand(life):
            await work(life, [message])  # the first is called for and released, the second is put back behind it
        assert life.row("x").state is TaskState.QUEUED
        await until_empty(life, last_first=last_first)
        assert counted(life) == (1, 1)

    world.live(story)
    assert woken(world) == {"first": end, "second": end}
    assert len({reply.id for reply in world.replies.replies}) == 1
    assert faults(world) == []


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("copies", [2, 3, 4])
def test_a_copy_takes_over_from_a_consumer_that_died_and_all_the_others_are_counted_and_told(
    tmp_path, copies, together
):
    world = World(tmp_path, voids=False)
    tokens = [f"token-{number}" for number in range(copies)]

    async def dies(life: Life) -> None:
        sent(life, urgent(), *tokens, together=together)
        await work(life, hand(life)[:1])

    with pytest.raises(Crash):
        world.live(dies, Dies(CALL, Side.AFTER))
    later(world.clock, 300)

    async def story(life: Life) -> None:
        await until_empty(life, last_first=True)
        assert counted(life) == (1, copies - 1)
        assert life.row("x").repaid == 1

    world.live(story)
    assert woken(world) == dict.fromkeys(tokens, "answered")
    assert faults(world) == []


@pytest.mark.parametrize("text", ["[sim:500-once]", "[sim:500-twice]", "[sim:500-once][sim:refuse]"])
def test_copies_in_one_message_are_one_task_whichever_of_them_is_called_for_last(tmp_path, text):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        life.system.intake.send([Outgoing(orjson.dumps({"tasks": [urgent(text)] * 4}).decode())])
        life.accept()
        await until_empty(life)
        assert counted(life) == (1, 3)

    world.live(story)
    assert faults(world) == []


def test_the_first_copy_is_the_task_of_the_row_though_the_second_one_has_answered_it(tmp_path):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, urgent("[sim:500-once]"), None, None)
        first, second = hand(life)
        await work(life, [first])
        origin = life.row("x").origin
        await life.pass_time(200)
        await work(life, [message for message in hand(life) if message.id == second.id])
        assert (life.row("x").state, life.row("x").origin) == (TaskState.ANSWERED, origin)

    world.live(story)


@pytest.mark.parametrize("tokens", [("one", "one"), (None, "one"), ("one", None), (None, None)])
def test_one_token_sent_twice_is_one_sleeper_and_a_copy_without_one_wakes_nobody(tmp_path, tokens):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, urgent("[sim:500-once]"), *tokens)
        for message in hand(life):
            await work(life, [message])
        await until_empty(life, last_first=True)
        assert counted(life) == (1, 1)

    world.live(story)
    assert woken(world) == {token: "answered" for token in tokens if token is not None}


@pytest.mark.parametrize("last_first", [False, True])
def test_of_a_cancelled_task_any_copy_writes_the_record_and_each_sleeper_is_told(tmp_path, last_first):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, urgent("[sim:500-once]"), "first", "second")
        for message in hand(life):
            await work(life, [message])
        cancel_tasks(life.system, X)
        await until_empty(life, last_first=last_first)
        assert life.row("x").state is TaskState.CANCELLED
        assert counted(life) == (1, 1)

    world.live(story)
    assert woken(world) == {"first": "cancelled", "second": "cancelled"}
    assert faults(world) == []


@pytest.mark.parametrize("together", [False, True])
def test_of_a_task_cancelled_in_its_part_the_copy_in_the_part_is_told_so_and_the_other_that_it_is_one(
    tmp_path, together
):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, batched(), "first", "second", together=together)
        drain(life.system)
        cancel_tasks(life.system, X)
        assert counted(life) == (1, 1)

    world.live(story)
    assert sorted(woken(world).values()) == ["cancelled", "duplicate"]
    assert faults(world) == []


@pytest.mark.parametrize("tags", [{}, LARGE])
@pytest.mark.parametrize("together", [False, True])
def test_copies_that_are_drained_are_told_that_the_task_is_at_work_or_how_it_ended(tmp_path, together, tags):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=600, max_s=600)))

    async def story(life: Life) -> None:
        sent(life, batched(tags=tags), "first", "second", together=together)
        await life.assemble()
        assert list(woken(world).values()) == ["duplicate"]
        sent(life, batched(tags=tags), "third")
        await life.finish()
        sent(life, batched(tags=tags), "fourth")
        await life.assemble()
        assert counted(life) == (1, 3)

    world.live(story)
    assert sorted(woken(world).values()) == ["answered", "answered", "duplicate", "duplicate"]
    assert woken(world)["fourth"] == "answered"
    assert faults(world) == []


def test_a_copy_that_comes_while_the_task_is_between_a_part_and_a_faster_lane_is_a_duplicate(tmp_path):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, batched(deadline_seconds=7_200), "first")
        drain(life.system)
        await life.pass_time(6_000)
        assert rescue_parts(life.system) == []
        assert life.row("x").state is TaskState.QUEUED
        sent(life, batched(deadline_seconds=7_200), "second")
        drain(life.system)
        await until_empty(life, Tier.NORMAL)
        assert counted(life) == (1, 1)

    world.live(story)
    assert woken(world) == {"first": "answered", "second": "duplicate"}
    assert faults(world) == []


def test_copies_with_different_deadlines_in_one_part_are_one_line_of_it(tmp_path):
    """Else the second would be freed from the part in place of the first, whose sleeper slept on."""
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, batched(deadline_seconds=7_200), "later")
        await life.pass_time(6_000)
        sent(life, batched(deadline_seconds=7_200), "sooner")
        messages = sorted(life.system.tiers[Tier.LOW].receive(10, visibility_s=0), key=_number, reverse=True)
        assert drained(life, messages) == 1
        await life.pass_time(600)
        await life.assemble()
        await life.finish()
        await until_empty(life, Tier.NORMAL)
        assert counted(life) == (1, 1)

    world.live(story)
    assert woken(world) == {"sooner": "answered", "later": "duplicate"}


class InThisOrder:
    """A queue that hands out its messages in this order."""

    def __init__(self, queue: Any, wanted: list[str]) -> None:
        self._queue, self._wanted = queue, wanted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def receive(self, limit: int, *, visibility_s: int) -> list[Message]:
        found = self._queue.receive(limit, visibility_s=visibility_s)
        return sorted(found, key=lambda message: self._wanted.index(message.id))


def drained(life: Life, order: list[Message]) -> int:
    """Drains the messages in this order; how many lines the parts have."""
    queue = InThisOrder(life.system.tiers[Tier.LOW], [message.id for message in order])
    drain(replace(life.system, tiers={**life.system.tiers, Tier.LOW: queue}))
    return sum(part.tasks for part in life.system.parts.active())


def handed_on(tmp_path: Any) -> World:
    """Two copies of a task that may choose its model, both of which were given to a batch."""
    return World(tmp_path, Scenario(batch=BatchWeather(min_s=600, max_s=600)), routes=asking())


async def both_handed_on(life: Life, *tokens: str) -> list[Message]:
    """Both copies are on LOW's queue: the first consumer died between its choice and its send, and came again."""
    sent(life, REPORT, *tokens)
    await work(life, hand(life, Tier.NORMAL)[:1], Tier.NORMAL)
    await life.pass_time(100)
    await until_empty(life, Tier.NORMAL)
    return sorted(life.system.tiers[Tier.LOW].receive(10, visibility_s=0), key=_number)


@pytest.mark.parametrize("last_first", [False, True])
def test_copies_that_were_both_handed_on_to_a_batch_are_one_task_whichever_is_drained_first(tmp_path, last_first):
    world = handed_on(tmp_path)

    async def story(life: Life) -> None:
        messages = await both_handed_on(life, "first", "second")
        assert len(messages) == 2
        drained(life, sorted(messages, key=_number, reverse=last_first))
        await life.assemble()
        await life.finish()
        assert counted(life) == (1, 1)

    world.live(story)
    told = woken(world)
    assert told == {
        "first": "duplicate" if last_first else "answered",
        "second": "answered" if last_first else "duplicate",
    }


def test_a_task_that_its_second_copy_brought_to_its_part_has_a_record_when_it_is_cancelled_on_its_way_out(tmp_path):
    world = handed_on(tmp_path)

    async def story(life: Life) -> None:
        messages = await both_handed_on(life, "first", "second")
        drained(life, messages[::-1])
        await life.pass_time(85_000)
        assert rescue_parts(life.system) == []
        cancel_tasks(life.system, X)
        assert life.row("x").state is TaskState.CANCELLING
        await until_empty(life, Tier.NORMAL)
        assert life.row("x").state is TaskState.CANCELLED
        assert counted(life) == (1, 1)

    world.live(story)
    assert woken(world) == {"first": "duplicate", "second": "cancelled"}


def test_a_copy_of_a_redriven_task_is_counted_and_told_of_its_new_life(tmp_path):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, urgent("[sim:refuse-once]"), "first")
        await until_empty(life)
        redrive(life.system, X)
        sent(life, urgent("[sim:refuse-once]"), "second")
        await until_empty(life, last_first=True)
        assert counted(life) == (1, 1)

    world.live(story)
    assert woken(world)["first"] == "content_policy_violation"
    assert woken(world)["second"] in ("answered", "duplicate")
    assert faults(world) == []


def test_a_message_of_an_earlier_life_that_was_not_told_is_told_when_it_comes_again(tmp_path):
    world = World(tmp_path, voids=False)

    async def dies(life: Life) -> None:
        sent(life, urgent("[sim:refuse-once]"), "first")
        await work(life, hand(life))

    with pytest.raises(Crash):
        world.live(dies, Dies("dead_letters.send"))

    async def story(life: Life) -> None:
        redrive(life.system, X)
        await until_empty(life, last_first=True)
        await life.pass_time(100)
        await until_empty(life)
        assert counted(life) == (1, 0)

    world.live(story)
    assert list(woken(world)) == ["first"]
    assert faults(world) == []


def test_a_copy_that_a_queue_gave_up_on_is_counted_and_told_like_any_other(tmp_path):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, urgent("[sim:500-once]"), "first", "second")
        first, second = hand(life)
        await work(life, [first])
        await life.pass_time(300)
        await work(life, [message for message in hand(life) if message.id == second.id])
        await life.pass_time(300)
        while life.system.tiers[Tier.HIGH].receive(10, visibility_s=0):
            """Functions die of it until the queue gives it up."""
        await salvage(life.system)
        assert counted(life) == (1, 1)

    world.live(story)
    assert woken(world) == {"first": "answered", "second": "answered"}


def test_a_copy_that_ingest_sent_twice_is_no_duplicate_whichever_of_the_two_is_answered(tmp_path):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, urgent("[sim:500-once]"), "first")
        [message] = hand(life)
        send_tasks(life.system, read_tasks(life.system, message))
        await work(life, [message])
        await until_empty(life, last_first=True)
        assert counted(life) == (1, 0)

    world.live(story)
    assert woken(world) == {"first": "answered"}


def test_a_conflict_beside_two_copies_is_refused_and_nothing_else(tmp_path):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        sent(life, urgent("[sim:500-once]"), "first", "second")
        for message in hand(life):
            await work(life, [message])
        sent(life, urgent("Other."), "other")
        await until_empty(life, last_first=True)
        total = life.engine.ledger.total()
        assert (total.tasks, total.duplicates, total.refused) == (1, 1, 1)

    world.live(story)
    assert woken(world) == {"first": "answered", "second": "answered", "other": "id_conflict"}


def test_a_conflict_that_is_drained_beside_a_task_is_not_asked_in_its_place(tmp_path):
    """The row was there, the drain had both in hand, and the first of them claimed nothing."""
    world = handed_on(tmp_path)

    async def story(life: Life) -> None:
        await both_handed_on(life, "first", "second")
        other = {**REPORT, "type": BATCHED}
        sent(life, other, "other")
        messages = sorted(life.system.tiers[Tier.LOW].receive(10, visibility_s=0), key=_number, reverse=True)
        drained(life, messages)
        await life.assemble()
        await life.finish()
        assert life.record("x").type == "report_generation"
        total = life.engine.ledger.total()
        assert (total.tasks, total.duplicates, total.refused) == (1, 1, 1)

    world.live(story)
    assert woken(world)["other"] == "id_conflict"


class Name(str):
    """An entry's name that counts how often it is compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)


def test_a_thousand_refusals_beside_each_other_are_not_compared_with_each_other():
    metrics, put = RecordedMetrics(), []
    ledger = SimpleNamespace(add=lambda entries: frozenset(dict(entries)), put=put.append)
    refused = [Delivery(Receipt(refused=1), entry=Name(f"conflict/{number}")) for number in range(1_000)]
    count(SimpleNamespace(ledger=ledger, metrics=metrics), None, refused)
    assert metrics.total("refused") == 1_000
    assert put == [[]]
    assert Name.compared < 10_000
