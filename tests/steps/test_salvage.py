"""What a queue gave up on, after a thousand receives, is read: every task in it has its end, and nothing is lost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lowtide.core.returns import MOST_RECEIVES
from lowtide.core.tasks import ClaimCall, TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Change, Outgoing
from lowtide.steps.carry import read_tasks
from lowtide.steps.salvage import salvage
from lowtide.steps.turns import sweep_due
from lowtide_local.engine.crashes import Crash, CrashPlan, Side
from tests.steps.one_tier import answered, begin
from tests.sweep.world import START, Life, form, task


def strand(life: Life, name: str) -> None:
    """As functions do that die of every message they are handed."""
    queue = life.engine.queue(name)
    for _ in range(MOST_RECEIVES):
        assert queue.receive(10, visibility_s=0)
    assert queue.receive(10, visibility_s=0) == []


def codes(life: Life) -> list[str]:
    return sorted(letter["error"]["code"] for letter in life.letters())


def left(life: Life) -> int:
    depth = life.system.stranded.depth()
    return depth.visible + depth.in_flight


def pack(*names: str, kind: str = "email_draft") -> dict[str, object]:
    return {"tasks": [task(name, kind) for name in names]}


@pytest.mark.parametrize(
    ("kind", "tier"), [("email_draft", Tier.HIGH), ("live_chat_response", Tier.CRITICAL), ("data_enrichment", Tier.LOW)]
)
def test_tasks_that_functions_died_of_are_dead_with_their_letters_and_records(tmp_path, kind, tier):
    world = begin(tmp_path, pack("a", "b", kind=kind))

    async def story(life: Life) -> None:
        life.accept()
        strand(life, tier.value)
        await sweep_due(life.system)
        assert codes(life) == ["stranded", "stranded"]
        record = life.record("a")
        assert (record.status, record.attempts, record.error and record.error.code) == ("dead", 0, "stranded")
        assert left(life) == 0
        assert life.system.ledger.total().dead == 2

    world.live(story)


def test_what_was_answered_stays_answered(tmp_path):
    world = begin(tmp_path, pack("a"))

    async def story(life: Life) -> None:
        life.accept()
        [message] = life.system.tiers[Tier.HIGH].receive(1, visibility_s=0)
        life.system.tiers[Tier.HIGH].send([Outgoing(message.body)])
        life.system.tiers[Tier.HIGH].delete([message])
        await answered(life, Tier.HIGH)
        life.system.tiers[Tier.HIGH].send([Outgoing(message.body)])
        strand(life, "HIGH")
        await sweep_due(life.system)
        assert (life.row("a").state, codes(life), left(life)) == (TaskState.ANSWERED, [], 0)

    world.live(story)


def test_a_publishers_message_is_judged_and_what_is_no_task_keeps_its_raw_bytes(tmp_path):
    world = begin(tmp_path, form("t", "email_draft"), "no task at all")

    async def story(life: Life) -> None:
        strand(life, "intake")
        await sweep_due(life.system)
        letters = {letter["error"]["code"]: letter["task"] for letter in life.letters()}
        assert letters["invalid_task"] == "no task at all"
        assert letters["stranded"]["task_id"] == "t"
        assert life.row("t").state is TaskState.DEAD
        assert left(life) == 0

    world.live(story)


def test_a_task_that_is_being_called_is_left_to_its_call_for_an_hour(tmp_path):
    world = begin(tmp_path, pack("a"))

    async def story(life: Life) -> None:
        life.accept()
        [message] = life.system.tiers[Tier.HIGH].receive(1, visibility_s=0)
        [accepted] = read_tasks(life.system, message)
        until = life.system.clock.now() + timedelta(minutes=2)
        life.system.tasks.apply([Change(accepted.key, ClaimCall(accepted, "elsewhere/1", until))], START)
        for _ in range(MOST_RECEIVES - 1):
            life.system.tiers[Tier.HIGH].receive(1, visibility_s=0)
        assert life.system.tiers[Tier.HIGH].receive(1, visibility_s=0) == []
        await sweep_due(life.system)
        assert (life.row("a").state, left(life)) == (TaskState.CALLING, 1)
        await life.pass_time(3_600)
        await sweep_due(life.system)
        # The other died with its call: that may be billed, and is counted.
        assert (life.row("a").state, life.row("a").repaid, left(life)) == (TaskState.DEAD, 1, 0)

    world.live(story)


@pytest.mark.parametrize("side", [Side.BEFORE, Side.AFTER])
def test_a_poller_that_dies_of_it_anywhere_leaves_it_to_the_next(tmp_path, side):
    for at in range(1, 60):
        world = begin(tmp_path / str(at), pack("a"))

        async def prepare(life: Life) -> None:
            life.accept()
            strand(life, "HIGH")

        async def story(life: Life) -> None:
            await salvage(life.system)

        async def again(life: Life) -> None:
            await life.pass_time(3_601)
            await salvage(life.system)
            assert (life.row("a").state, life.row("a").repaid, left(life)) == (TaskState.DEAD, 0, 0)
            assert set(codes(life)) == {"stranded"}
            assert life.system.ledger.total().dead == 1

        world.live(prepare)
        try:
            world.live(story, CrashPlan(at, side))
        except Crash:
            world.live(again)
        else:
            assert at > 5
            return
    raise AssertionError("there is no end to its calls")
