"""A port that raises harms what it was asked for, and nothing beside that: no neighbour, no lease, no permit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from lowtide.core.batches import BatchState
from lowtide.core.errors import LowtideError, Unfinished
from lowtide.core.pace_events import CallEnd, Sign, Tell
from lowtide.core.pace_rows import account_key
from lowtide.core.parts import PartState
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Change
from lowtide.steps.accept import accept_messages
from lowtide.steps.answer import answer
from lowtide.steps.coalesce import Coalescer
from lowtide.steps.drain import drain
from lowtide.steps.gate import Gate
from lowtide.steps.slots import Slots
from lowtide.steps.sweep import sweep
from lowtide.steps.turns import assemble, submit_due, sweep_due
from lowtide_local.engine.crashes import Side
from tests.steps.one_lot import ends
from tests.steps.one_tier import answered, begin, slow
from tests.steps.test_asking import asking, paying
from tests.steps.test_putting_back import arrive
from tests.sweep.refusals import Refuses, throttled
from tests.sweep.world import Life, World, task

ASKER = "gpt-5-nano"


def urgent(name: str, text: str = "Hello.", **fields: Any) -> dict[str, Any]:
    return task(name, "email_draft", text, **fields)


def low(name: str, **fields: Any) -> dict[str, Any]:
    return task(name, "content_generation", **fields)


def named(task_id: str) -> Any:
    return lambda key: key == f"{task_id} default"


@pytest.mark.parametrize("nth", [1, 2], ids=["claim", "settle"])
def test_a_row_that_cannot_be_written_harms_no_neighbour_that_is_written_with_it(tmp_path, nth):
    world = begin(tmp_path)
    names = [f"t{number}" for number in range(5)]
    plan = Refuses("tasks.apply", throttled(), nth=nth, of=named("t2"))

    async def story(life: Life) -> None:
        arrive(life, *(urgent(name) for name in names))
        report = await life.answer(Tier.HIGH)
        assert (len(report.done), len(report.again)) == (4, 1)
        assert plan.refused == 1
        await life.pass_time(300)
        await answered(life)
        repaid = {name: life.row(name).repaid for name in names}
        assert repaid == {name: int(name == "t2" and nth == 2) for name in names}

    world.live(story, plan)
    assert len(world.provider.billed) == 5 + (nth == 2)


def test_each_item_of_a_shared_write_hears_of_its_own_error_only():
    def work(items: Any) -> Any:
        outcomes = [ValueError(item) if item == "bad" else item.upper() for item in items]
        raise Unfinished(outcomes)

    async def in_place(step: Any) -> Any:
        return step()

    async def together() -> list[Any]:
        write: Coalescer[str, str] = Coalescer(work, in_place)
        return await asyncio.gather(write("a"), write("bad"), write("b"), return_exceptions=True)

    heard = asyncio.run(together())
    assert [heard[0], heard[2]] == ["A", "B"]
    assert isinstance(heard[1], ValueError)


def test_a_claim_for_a_part_that_fails_holds_its_own_message_and_the_others_are_batched(tmp_path):
    world = World(tmp_path)
    world.publish(*(low(f"t{number}") for number in range(4)))
    plan = Refuses("tasks.apply", throttled(), of=named("t2"))

    async def story(life: Life) -> None:
        while messages := life.system.intake.receive(1, visibility_s=60):
            accept_messages(life.system, messages)
            life.system.intake.delete(messages)
        drained = drain(life.system)
        assert len(drained.errors) == 1
        assert life.waiting(Tier.LOW) == 1
        [part] = life.system.parts.active()
        assert part.state is PartState.CLOSED
        await life.pass_time(1_000)
        await life.assemble()
        await life.finish()
        assert {name: attempts for name, (_, attempts) in ends(life).items()} == dict.fromkeys(
            ("t0", "t1", "t2", "t3"), 1
        )

    world.live(story, plan)


def test_messages_in_hand_are_drained_though_the_queue_fails_when_it_is_asked_for_more(tmp_path):
    world = World(tmp_path)
    world.publish({"tasks": [low(f"t{number}") for number in range(3)]})
    world.publish(*(low(f"s{number}") for number in range(12)))

    async def story(life: Life) -> None:
        while messages := life.system.intake.receive(1, visibility_s=60):
            accept_messages(life.system, messages)
            life.system.intake.delete(messages)
        with pytest.raises(type(throttled())):
            drain(life.system)
        assert sum(part.tasks for part in life.system.parts.active()) == 12
        assert life.waiting(Tier.LOW) == 3

    world.live(story, Refuses("low.receive", throttled(), nth=2, times=2))


def test_a_heartbeat_that_the_queue_refuses_is_missed_and_the_calls_go_on(tmp_path):
    world = begin(tmp_path, scenario=slow(15))
    plan = Refuses("high.defer", throttled(), times=2)

    async def story(life: Life) -> None:
        arrive(life, urgent("a"), urgent("b"))
        report = await life.answer(Tier.HIGH, visibility_s=10)
        assert len(report.done) == 2

    world.live(story, plan)
    assert plan.refused == 2
    assert [line.fields["error"] for line in world.metrics.lines if line.event == "heartbeat_missed"] == [
        "ClientError"
    ] * 2


def test_a_look_at_critical_that_fails_changes_nothing(tmp_path):
    world = begin(tmp_path, urgent("a"))
    plan = Refuses("levels.look", throttled(), nth=2, times=50)

    async def story(life: Life) -> None:
        life.accept()
        report = await life.answer(Tier.HIGH)
        assert len(report.done) == 1

    world.live(story, plan)
    assert plan.refused


@pytest.mark.parametrize("error", [throttled(), LowtideError("how high the queues stand could not be asked")])
def test_tasks_are_let_in_while_the_levels_of_the_tiers_cannot_be_asked(tmp_path, error):
    world = begin(tmp_path, urgent("a"))

    async def story(life: Life) -> None:
        life.accept()
        assert life.waiting(Tier.HIGH) == 1
        assert life.system.intake.depth().visible == 0

    world.live(story, Refuses("levels.look", error))
    assert [line.event for line in world.metrics.lines] == ["levels_unknown"]


def test_what_kept_tasks_from_their_queue_is_told_though_their_messages_cannot_be_put_back_either(tmp_path):
    world = begin(tmp_path, urgent("a"))

    async def story(life: Life) -> None:
        life.system = replace(life.system, intake=_Undeferrable(life.system.intake))
        with pytest.raises(LowtideError, match="not taken"):
            life.accept()

    world.live(story, Refuses("high.send", LowtideError("it was not taken")))


class _Undeferrable:
    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def defer(self, _: Any) -> None:
        raise throttled()


class Choosy:
    """A queue that takes no message with this word in it."""

    def __init__(self, queue: Any, word: str) -> None:
        self._queue, self._word = queue, word

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def send(self, messages: Any) -> None:
        if any(self._word in message.body for message in messages):
            raise LowtideError("InvalidMessageContents")
        self._queue.send(messages)


@pytest.mark.parametrize("at", [0, 3, 9])
def test_a_message_that_its_queue_will_not_take_comes_again_alone(tmp_path, at):
    world = begin(tmp_path)
    names = [f"t{number}" for number in range(9)]
    names.insert(at, "poison")
    world.publish(*(urgent(name) for name in names), "{no JSON")

    async def story(life: Life) -> None:
        life.system = replace(
            life.system,
            tiers={**life.system.tiers, Tier.HIGH: Choosy(life.system.tiers[Tier.HIGH], "poison")},
        )
        messages = life.system.intake.receive(11, visibility_s=60)
        intake = accept_messages(life.system, messages)
        assert [task_of(message) for message in intake.again] == ["poison"]
        assert len(intake.accepted) == 9
        await answered(life)
        total = life.engine.ledger.total()
        assert (total.answered, total.refused, total.duplicates) == (9, 1, 0)

    world.live(story)


def test_tasks_that_were_forwarded_stay_so_though_the_waiting_messages_cannot_be_put_back(tmp_path):
    world = begin(tmp_path, urgent("a"))

    async def story(life: Life) -> None:
        life.accept()
        assert life.waiting(Tier.HIGH) == 1
        assert life.system.intake.depth().visible == life.system.intake.depth().in_flight == 0

    world.live(story, Refuses("intake.defer", throttled(), times=9))


def task_of(message: Any) -> str:
    return str(orjson.loads(message.body)["task_id"])


def test_a_queue_that_takes_nothing_is_tried_twice_and_the_delivery_comes_again(tmp_path):
    world = begin(tmp_path, *(urgent(f"t{number}") for number in range(9)))
    plan = Refuses("high.send", LowtideError("the queue is gone"), times=99)

    async def story(life: Life) -> None:
        messages = life.system.intake.receive(10, visibility_s=60)
        with pytest.raises(LowtideError, match="gone"):
            accept_messages(life.system, messages)
        assert plan.refused == 3

    world.live(story, plan)


def refused_account(life: Life) -> None:
    """An operator has mended it since: whoever asks next may try."""
    key, now = account_key("openai"), life.system.clock.now()
    life.system.paces.apply([Change(key, Tell(key, (CallEnd(Sign.REFUSED, now, "other"),)))], now)


@pytest.mark.parametrize("call", ["objects.open", "batches.apply"])
def test_a_submission_that_fails_for_reasons_of_ours_gives_the_accounts_probe_back(tmp_path, call):
    world = begin(tmp_path, low("a"))
    plan = Refuses(call, throttled(), nth=10**9)

    async def story(life: Life) -> None:
        life.accept()
        refused_account(life)
        await life.assemble()
        assert life.batch().state is BatchState.SEALED
        await life.pass_time(400)
        plan.next()
        with pytest.raises(ExceptionGroup):
            await submit_due(life.system)
        assert plan.refused
        [account] = [row for row in life.engine.paces.scan() if row.of_account]
        assert account.probe is None
        await submit_due(life.system)
        assert life.batch().state is BatchState.RUNNING

    world.live(story, plan)


@pytest.mark.parametrize(
    ("call", "reached"),
    [("low.receive", "RUNNING"), ("holds.active", "RUNNING"), ("parts.active", "RUNNING"), ("objects.get", "RUNNING")],
)
def test_each_step_of_the_assembler_is_taken_whatever_became_of_the_one_before(tmp_path, call, reached):
    world = begin(tmp_path, low("a"))
    plan = Refuses(call, throttled(), nth=10**9)

    async def story(life: Life) -> None:
        life.accept()
        drain(life.system)
        plan.next()
        with pytest.raises(ExceptionGroup) as failed:
            await assemble(life.system, flush=True)
        assert len(failed.value.exceptions) == 1
        assert life.batch().state is BatchState[reached]

    world.live(story, plan)


def test_an_invocation_keeps_no_moment_of_a_task_whose_choice_could_not_be_written(tmp_path):
    world = World(tmp_path, routes=asking())
    world.publish(paying("a", "document_analysis"))
    plan = Refuses("tasks.apply", throttled(), nth=2)

    async def story(life: Life) -> None:
        life.accept()
        gate = Gate(life.system)
        messages = life.system.tiers[Tier.NORMAL].receive(10, visibility_s=600)
        slots = Slots(4)
        report = await answer(life.system, Tier.NORMAL, messages, slots=slots, gate=gate)
        assert (len(report.again), plan.refused, slots._free) == (1, 1, Slots(4)._free)
        spare = [line for line in gate._lines.values() if line._spare]
        assert len(spare) == 1, "the moment that was for the call itself"

    world.live(story, plan)


def test_a_question_that_gets_no_moment_because_the_store_fails_is_not_asked_and_costs_no_claim(tmp_path):
    world = World(tmp_path, routes=asking())
    world.publish(paying("a", "document_analysis"))
    plan = Refuses("paces.apply", throttled(), nth=2)

    async def story(life: Life) -> None:
        life.accept()
        report = await life.answer(Tier.NORMAL)
        assert (len(report.done), plan.refused) == (1, 1)
        assert (life.row("a").state, life.row("a").repaid) == (TaskState.ANSWERED, 0)

    world.live(story, plan)
    assert len(world.provider.billed) == 1


def test_a_task_whose_chosen_model_cannot_be_asked_for_a_moment_is_given_back_and_not_counted(tmp_path):
    world = World(tmp_path, routes=asking())
    world.publish(paying("a", "document_analysis"))
    # The three before ask for the question's two moments and note that its model has answered.
    plan = Refuses("paces.apply", throttled(), nth=4)

    async def story(life: Life) -> None:
        life.accept()
        report = await life.answer(Tier.NORMAL)
        assert (len(report.again), plan.refused) == (1, 1)
        assert (life.row("a").state, life.row("a").repaid) == (TaskState.QUEUED, 0)
        await answered(life, Tier.NORMAL)
        assert (life.row("a").state, life.row("a").repaid) == (TaskState.ANSWERED, 0)

    world.live(story, plan)


def test_a_sweep_that_fails_keeps_nobody_from_reading_what_is_stranded(tmp_path):
    world = begin(tmp_path, urgent("a"))

    async def story(life: Life) -> None:
        life.accept()
        while life.system.tiers[Tier.HIGH].receive(10, visibility_s=0):
            """Functions die of it until the queue gives it up."""
        with pytest.raises(ExceptionGroup):
            await sweep_due(life.system)
        assert life.row("a").state is TaskState.DEAD

    world.live(story, Refuses("objects.put", throttled()))


def test_a_provider_whose_rows_cannot_be_read_keeps_no_other_from_being_swept(tmp_path):
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        await sweep(life.system)

    world.live(story, Refuses("batches.get", throttled(), Side.BEFORE))
    assert [line.event for line in world.metrics.lines] == ["sweep_failed"]
