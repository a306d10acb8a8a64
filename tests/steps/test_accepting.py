"""Ingest: each task judged on its own, nothing written down, everything forwarded before the message may go."""

from __future__ import annotations

import pytest

from lowtide.core.errors import LowtideError
from lowtide.core.tiers import Tier
from lowtide_local.engine.crashes import Crash, Side
from tests.sweep.world import Dies, Life, World, task


async def accepted(life: Life) -> None:
    life.accept()


def test_a_broken_task_in_a_pack_harms_nothing_around_it(tmp_path):
    world = World(tmp_path)
    world.publish({"tasks": [task("a", "email_draft"), {"task_id": "broken"}, 7, task("b", "content_generation")]})

    async def story(life: Life) -> None:
        life.accept()
        assert (life.waiting(Tier.HIGH), life.waiting(Tier.LOW)) == (1, 1)
        letters = life.letters()
        assert [letter["error"]["code"] for letter in letters] == ["invalid_task", "invalid_task"]
        assert [letter["task"] for letter in letters] == [{"task_id": "broken"}, 7]
        assert life.engine.ledger.total().refused == 2

    world.live(story)


@pytest.mark.parametrize("body", ["{no JSON", "[]", '"text"', '{"tasks": []}', "{}"])
def test_a_message_that_is_no_task_at_all_is_a_dead_letter(tmp_path, body):
    world = World(tmp_path)
    world.publish(body)

    async def story(life: Life) -> None:
        life.accept()
        [letter] = life.letters()
        assert letter["error"]["code"] == "invalid_task"
        assert letter["task"] in (body, {})

    world.live(story)


def test_ingest_writes_no_state(tmp_path):
    world = World(tmp_path)
    world.publish(task("a", "email_draft"), task("b", "content_generation"))

    async def story(life: Life) -> None:
        life.accept()
        assert list(life.engine.tasks.scan()) == []
        assert life.system.parts.active() == []

    world.live(story)


def test_a_never_batched_task_that_asks_for_low_is_not_on_low_s_queue(tmp_path):
    world = World(tmp_path)
    world.publish(task("a", "safety_check", priority="LOW"), task("b", "fraud_detection", priority=3))

    async def story(life: Life) -> None:
        life.accept()
        assert (life.waiting(Tier.LOW), life.waiting(Tier.CRITICAL), life.waiting(Tier.NORMAL)) == (0, 1, 1)
        await life.answer(Tier.CRITICAL)
        assert "never batched" in life.record("a").route

    world.live(story)


@pytest.mark.parametrize("call", ["high.send", "low.send", "dead_letters.send", "ledger.add"])
def test_what_ingest_had_sent_when_it_died_is_known_again_when_it_comes_a_second_time(tmp_path, call):
    """Duplicates and conflicts too are counted once, though their messages come twice."""
    world = World(tmp_path)
    first = task("a", "email_draft")
    world.publish(first)
    world.work()
    world.publish(
        {"tasks": [first, task("a", "email_draft", "Something else."), task("b", "content_generation"), {"broken": 1}]}
    )
    with pytest.raises(Crash):
        world.live(accepted, Dies(call, Side.AFTER))
    assert world.work()

    async def story(life: Life) -> None:
        total = life.engine.ledger.total()
        assert (total.tasks, total.answered, total.duplicates, total.refused) == (2, 2, 1, 2)

    world.live(story)
    assert len(world.provider.billed) == 2


def test_a_queue_that_takes_nothing_leaves_the_message_where_it_was(tmp_path):
    world = World(tmp_path)
    world.publish(task("a", "email_draft"))

    async def story(life: Life) -> None:
        def full(_messages):
            raise LowtideError("the queue takes nothing")

        high = life.system.tiers[Tier.HIGH]
        high.send = full
        with pytest.raises(LowtideError):
            life.accept()
        del high.__dict__["send"]
        await life.pass_time(61)
        life.accept()
        await life.answer(Tier.HIGH)
        assert life.record("a").attempts == 1

    world.live(story)


@pytest.mark.parametrize("kind", ["content_generation", "email_draft"])
@pytest.mark.parametrize(
    ("levels", "code"), [(90, "content_policy_violation"), (190, "invalid_task"), (240, "invalid_task")]
)
def test_a_task_nested_deeply_is_kept_whole_or_refused_at_the_door_and_harms_nothing_around_it(
    tmp_path, kind, levels, code
):
    payload: dict[str, object] = {}
    for _ in range(levels):
        payload = {"in": payload}
    world = World(tmp_path)
    world.publish(task("a", kind), {"task_id": "deep", "type": kind, "payload": payload | {"text": "[sim:refuse]"}})
    assert world.work()

    async def story(life: Life) -> None:
        ends = {row.task_id: row.state.value for row in life.engine.tasks.scan()}
        assert ends == {"a": "answered"} | ({} if code == "invalid_task" else {"deep": "dead"})
        assert [letter["error"]["code"] for letter in life.letters()] == [code]

    world.live(story)
