"""LOW tasks off their queue into parts: cut anywhere, repeated, poisoned."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lowtide.core.batches import BatchState
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Outgoing
from lowtide.steps.drain import drain
from lowtide.steps.seal import seal
from lowtide.steps.turns import submit_due
from lowtide_local.engine.crashes import Crash, Side
from tests.sweep.world import Dies, Life, World, task, with_batching

LEASE_S = 901


def lows(*names: str) -> list[dict]:
    return [task(name, "content_generation") for name in names]


async def drained(life: Life) -> None:
    life.accept()
    drain(life.system)


async def finished(life: Life) -> None:
    await life.finish()


@pytest.mark.parametrize(
    ("call", "side"),
    [
        ("objects.put", Side.AFTER),
        ("parts.apply", Side.AFTER),
        ("tasks.apply", Side.BEFORE),
        ("tasks.apply", Side.AFTER),
        ("low.delete", Side.BEFORE),
        ("low.delete", Side.AFTER),
    ],
)
def test_a_crash_between_the_claims_and_the_closing_of_the_part_strands_nothing(tmp_path, call, side):
    world = World(tmp_path, voids=False)
    world.publish(*lows("a", "b"))
    with pytest.raises(Crash):
        world.live(drained, Dies(call, side))

    async def after(life: Life) -> None:
        await life.pass_time(LEASE_S)
        await life.finish()
        assert [life.record(name).attempts for name in ("a", "b")] == [1, 1]
        assert life.waiting(Tier.LOW) == 0
        assert life.engine.ledger.total().duplicates == 0

    world.live(after)
    assert len(world.provider.billed) == 2


def test_a_part_left_open_is_sealed_when_its_lease_has_run_out_and_not_before(tmp_path):
    world = World(tmp_path, voids=False)
    world.publish(*lows("a"))
    with pytest.raises(Crash):
        world.live(drained, Dies("parts.apply", Side.BEFORE, 2))

    async def after(life: Life) -> None:
        assert seal(life.system, flush=True) == []
        await life.pass_time(LEASE_S)
        [batch] = seal(life.system, flush=True)
        assert (batch.state, batch.requests) == (BatchState.SEALED, 1)

    world.live(after)


def test_only_lines_whose_claim_names_their_part_are_sent(tmp_path):
    """A part whose drain died before its claims holds the same tasks as the part of whoever received them next."""
    world = World(tmp_path, voids=False)
    world.publish(*lows("a", "b"))
    with pytest.raises(Crash):
        world.live(drained, Dies("tasks.apply", Side.BEFORE))

    async def after(life: Life) -> None:
        await life.pass_time(LEASE_S)
        await drained(life)
        assert len(life.system.parts.active()) == 2
        [batch] = seal(life.system, flush=True)
        assert batch.requests == 2

    world.live(after)


def test_tasks_of_different_models_go_into_different_parts(tmp_path):
    world = World(tmp_path)
    world.publish(*lows("a", "b"), task("c", "content_generation", model="gpt-4o-mini"))

    async def story(life: Life) -> None:
        await drained(life)
        parts = {part.lot.model: part.tasks for part in life.system.parts.active()}
        assert parts == {"gpt-5-mini": 2, "gpt-4o-mini": 1}

    world.live(story)


def test_a_part_holds_no_more_tasks_than_it_may(tmp_path):
    world = World(tmp_path, routes=with_batching(part_tasks=2))
    world.publish({"tasks": lows("a", "b", "c", "d", "e")})

    async def story(life: Life) -> None:
        await drained(life)
        assert sorted(part.tasks for part in life.system.parts.active()) == [1, 2, 2]
        await life.finish()
        assert {row.state for row in life.engine.tasks.scan()} == {TaskState.ANSWERED}

    world.live(story)


def test_the_same_task_again_is_a_duplicate_and_is_asked_once(tmp_path):
    world = World(tmp_path)
    world.publish({"tasks": lows("a", "a")}, *lows("a"))

    async def story(life: Life) -> None:
        await drained(life)
        await life.finish()
        assert (life.engine.ledger.total().tasks, life.engine.ledger.total().duplicates) == (1, 2)

    world.live(story)
    assert len(world.provider.billed) == 1


def test_another_task_under_the_same_id_is_refused_and_the_first_one_untouched(tmp_path):
    world = World(tmp_path)
    world.publish(*lows("a"))
    world.live(drained)
    world.publish(task("a", "content_generation", "Something else."))

    async def story(life: Life) -> None:
        await drained(life)
        await life.finish()
        [letter] = life.letters()
        assert letter["error"]["code"] == "id_conflict"
        assert letter["task"]["request"]["body"]["messages"][0]["content"] == "Something else."
        assert life.engine.ledger.total().refused == 1
        assert life.record("a").status == "answered"

    world.live(story)


@pytest.mark.parametrize("body", ["no JSON", "{}", '{"tasks": [{"task_id": "x"}]}', '{"carried": "nowhere"}'])
def test_a_message_that_ingest_never_wrote_harms_nothing_around_it(tmp_path, body):
    world = World(tmp_path)
    world.publish(*lows("a"))

    async def story(life: Life) -> None:
        life.accept()
        life.system.tiers[Tier.LOW].send([Outgoing(body=body)])
        drain(life.system)
        await life.finish()
        assert life.record("a").status == "answered"

    world.live(story)


def test_a_message_that_is_no_pack_becomes_one_dead_letter(tmp_path):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        life.system.tiers[Tier.LOW].send([Outgoing(body="no JSON")])
        drain(life.system)
        [letter] = life.letters()
        assert (letter["task"], letter["error"]["code"]) == ("no JSON", "invalid_task")
        assert life.waiting(Tier.LOW) == 0

    world.live(story)


def test_a_drain_that_has_no_time_left_begins_nothing(tmp_path):
    world = World(tmp_path)
    world.publish(*lows("a"))

    async def story(life: Life) -> None:
        life.accept()
        assert drain(life.system, stop_at=life.system.clock.now()).messages == 0
        assert life.waiting(Tier.LOW) == 1
        assert drain(life.system, stop_at=life.system.clock.now() + timedelta(seconds=1)).tasks == 1

    world.live(story)


def test_a_task_too_large_for_a_message_travels_by_claim_check(tmp_path):
    world = World(tmp_path)
    world.publish(*lows("small"), task("large", "content_generation", "long " * 190_000))

    async def story(life: Life) -> None:
        life.accept()
        assert len(list(life.system.objects.keys("carried/"))) == 1
        drain(life.system)
        await life.finish()
        assert [life.record(name).status for name in ("small", "large")] == ["answered", "answered"]

    world.live(story)


def test_a_part_waits_for_company_unless_told_that_no_more_is_coming(tmp_path):
    world = World(tmp_path)
    world.publish(*lows("a"))

    async def story(life: Life) -> None:
        await drained(life)
        assert seal(life.system) == []
        await life.pass_time(life.system.routes.batching.max_wait_s)
        assert len(seal(life.system)) == 1

    world.live(story)


def test_no_more_batches_are_open_at_a_time_than_allowed(tmp_path):
    world = World(tmp_path, routes=with_batching(max_open_batches=1))
    world.publish(*lows("a"), task("b", "content_generation", model="gpt-4o-mini"))

    async def story(life: Life) -> None:
        await drained(life)
        assert len(seal(life.system, flush=True)) == 1
        await submit_due(life.system)
        assert seal(life.system, flush=True) == []
        await life.finish()
        assert [life.record(name).status for name in ("a", "b")] == ["answered", "answered"]

    world.live(story)


def test_sealing_again_after_a_crash_writes_the_same_file(tmp_path):
    world = World(tmp_path)
    world.publish(*lows("a", "b", "c"))
    world.live(drained)

    async def sealing(life: Life) -> None:
        seal(life.system, flush=True)

    with pytest.raises(Crash):
        world.live(sealing, Dies("objects.put", Side.AFTER, nth=2))  # the first notes whose turn it was

    async def after(life: Life) -> None:
        [key] = life.system.objects.keys("batches/b-")
        before = life.system.objects.get(key)
        [batch] = seal(life.system)
        assert batch.file_key == key
        assert life.system.objects.get(key) == before
        assert before.count(b"\n") == 3

    world.live(after)


def test_a_batch_that_cannot_be_sealed_keeps_no_other_from_the_provider(tmp_path):
    world = World(tmp_path)
    world.publish(*lows("a"), task("b", "content_generation", model="gpt-4o-mini"))

    async def story(life: Life) -> None:
        await drained(life)
        broken = next(part for part in life.system.parts.active() if part.lot.model == "gpt-4o-mini")
        life.system.objects.delete([broken.object_key])
        with pytest.raises(ExceptionGroup, match="1 steps of the assembler failed"):
            await life.assemble()
        states = {row.lot.model: row.state.value for row in life.system.batches.active()}
        assert states == {"gpt-5-mini": "running", "gpt-4o-mini": "open"}

    world.live(story)
