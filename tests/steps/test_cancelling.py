"""Tasks and batches are cancelled in any state: one record each, nothing asked that need not be, all money counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from lowtide.core.batches import BatchState, BatchVerdict, Unanswered, Upload
from lowtide.core.receipts import Receipt
from lowtide.core.records import Status
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.steps.cancel import CancelOutcome, cancel_tasks, stop_batch
from lowtide.steps.drain import drain
from lowtide.steps.lease import leased
from lowtide.steps.seal import seal
from lowtide.steps.submit import submit
from lowtide.steps.sweep import sweep
from lowtide.steps.turns import collect_due, submit_due
from lowtide_local.engine.crashes import Crash, CrashPlan, Side, every_crash
from lowtide_local.run.records import settled
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario, Window, WindowKind
from tests.steps.books import faults
from tests.steps.one_tier import slow
from tests.sweep.world import Dies, Life, World, later, task

ANSWERED, CANCELLED = Status.ANSWERED, Status.CANCELLED
REPLY_TO = "https://queue/replies"
A, B = ("default", "a"), ("default", "b")
Story = Callable[[Life], Awaitable[None]]


def batching(**weather: object) -> Scenario:
    return Scenario(batch=BatchWeather(min_s=600, max_s=600, **weather))


def two(tmp_path, kind: str = "content_generation", scenario: Scenario | None = None) -> World:
    """Tasks ``a``, which somebody waits for, and ``b``."""
    world = World(tmp_path, scenario or batching())
    world.publish(task("a", kind, "Hello a.", reply_to=REPLY_TO), task("b", kind, "Hello b."))
    return world


def statuses(world: World) -> dict[str, Status]:
    async def look(life: Life) -> dict[str, Status]:
        return {row.task_id: document.record.status for row, document in settled(life.system, life.engine)}

    return world.live(look)


def told(world: World) -> list[tuple[str, str]]:
    """(task_id, status) of every reply; repeats once."""
    replies = [orjson.loads(body) for _, body in world.replies.sent]
    return sorted({(reply["task_id"], reply["status"]) for reply in replies})


async def cancel_a(life: Life) -> CancelOutcome:
    [outcome] = cancel_tasks(life.system, [A])
    return outcome


# --- the states that a LOW task goes through ----------------------------------------------------------------------


async def unknown(life: Life) -> None:
    assert life.system.tasks.get(["a default"]) == [None]


async def queued(life: Life) -> None:
    life.accept()


async def drained(life: Life) -> None:
    life.accept()
    drain(life.system)


async def sealed(life: Life) -> None:
    await drained(life)
    seal(life.system, flush=True)


async def uploading(life: Life) -> None:
    await sealed(life)
    with leased(life.system, life.batch()) as batch:
        assert batch.apply(Upload(batch.owner))


async def running(life: Life) -> None:
    life.accept()
    await life.assemble()
    assert life.batch().state is BatchState.RUNNING


async def ended_at_the_provider(life: Life) -> None:
    await running(life)
    await life.pass_time(700)


UNSENT = (unknown, queued, drained)
"""States in which the line of a cancelled task is not yet in the batch's file."""
SENT = (sealed, running, ended_at_the_provider)


@pytest.mark.parametrize("reached", [*UNSENT, *SENT])
def test_a_task_is_cancelled_in_any_state_and_its_neighbour_is_answered(tmp_path, reached):
    world = two(tmp_path)
    world.live(reached)
    outcome = world.live(cancel_a)
    assert outcome is (CancelOutcome.CANCELLING if reached in (unknown, queued) else CancelOutcome.CANCELLED)
    assert world.work()
    assert statuses(world) == {"a": CANCELLED, "b": ANSWERED}
    assert told(world) == [("a", "cancelled")]
    assert faults(world) == []
    assert len(world.provider.billed) == 1 + (reached in SENT)

    async def counted(life: Life) -> None:
        record, total = life.record("a"), life.engine.ledger.total()
        assert (record.error.code, record.response, record.cost_usd) == ("cancelled", None, 0)
        assert not record.deadline_met
        assert record.attempts == (0 if reached in (unknown, queued) else 1)
        assert (total.tasks, total.cancelled, total.answered, total.repaid) == (2, 1, 1, reached in SENT)

    world.live(counted)


@pytest.mark.parametrize("reached", [*UNSENT, *SENT])
def test_a_crash_before_or_after_any_call_of_a_cancel_is_mended_by_repeating_it(tmp_path, reached):
    clean, plan = two(tmp_path / "clean"), CrashPlan()
    clean.live(reached)
    clean.live(cancel_a, plan)
    for crash in every_crash(len(plan.calls)):
        world = two(tmp_path / f"{crash.at}-{crash.side.name}")
        world.live(reached)
        with pytest.raises(Crash):
            world.live(cancel_a, crash)
        world.live(cancel_a)
        assert world.work()
        assert statuses(world) == {"a": CANCELLED, "b": ANSWERED}, crash
        assert told(world) == [("a", "cancelled")], crash
        assert faults(world) == [], crash


@pytest.mark.parametrize("reached", [queued, running])
def test_a_crash_of_the_pipeline_around_a_cancelled_task_leaves_one_record(tmp_path, reached):
    def begin(name: str) -> World:
        world = two(tmp_path / name)
        world.live(reached)
        world.live(cancel_a)
        return world

    plan = CrashPlan()
    assert begin("clean").work(plan)
    writes = [
        each
        for each in every_crash(len(plan.calls))
        if plan.calls[each.at - 1].rpartition(".")[2] in ("apply", "put", "send", "delete")
    ]
    for crash in writes[::7]:  # both sides; `make sweep` cancels in its drawn days, and dies anywhere
        world = begin(f"{crash.at}-{crash.side.name}")
        assert not world.work(crash)
        assert world.work()
        assert statuses(world) == {"a": CANCELLED, "b": ANSWERED}, crash
        assert faults(world) == [], crash


def test_a_tombstone_meets_the_task_however_late_it_comes_and_asks_nothing(tmp_path):
    world = World(tmp_path)
    assert world.live(cancel_a) is CancelOutcome.CANCELLING
    assert world.live(cancel_a) is CancelOutcome.CANCELLING
    assert faults(world) == []  # nobody has accepted it
    world.publish(task("a", "email_draft", reply_to=REPLY_TO))
    assert world.work()
    assert statuses(world) == {"a": CANCELLED}
    assert told(world) == [("a", "cancelled")]
    assert world.provider.billed == []
    assert faults(world) == []


def test_a_duplicate_of_a_cancelled_task_is_a_duplicate_and_other_content_a_conflict(tmp_path):
    world = two(tmp_path, "email_draft")
    world.live(cancel_a)
    assert world.work()
    world.publish(task("a", "email_draft", "Hello a.", reply_to=REPLY_TO), task("a", "email_draft", "Other."))
    assert world.work()

    async def counted(life: Life) -> None:
        total = life.engine.ledger.total()
        assert (total.cancelled, total.duplicates, total.refused) == (1, 1, 1)

    world.live(counted)
    assert faults(world) == []


@pytest.mark.parametrize("side", list(Side))
def test_a_call_in_flight_is_cancelled_and_what_it_brings_is_counted_as_repaid(tmp_path, side):
    world = two(tmp_path, "email_draft", slow(10))

    async def story(life: Life) -> None:
        life.accept()
        consumer = asyncio.create_task(life.answer(Tier.HIGH))
        await life.pass_time(5)
        assert life.row("a").state is TaskState.CALLING
        assert await cancel_a(life) is CancelOutcome.CANCELLING
        await consumer
        assert life.row("a").state is TaskState.CANCELLING

    if side is Side.BEFORE:  # the consumer dies in its calls
        with pytest.raises(Crash):
            world.live(story, Dies("answers.openai.answer", Side.AFTER))
    else:
        world.live(story)
    assert world.work()
    assert statuses(world) == {"a": CANCELLED, "b": ANSWERED}
    assert told(world) == [("a", "cancelled")]
    assert faults(world) == []

    async def counted(life: Life) -> None:
        assert life.row("a").repaid == 1
        assert life.record("a").attempts == 1

    world.live(counted)


def test_what_has_ended_stays_as_it_ended(tmp_path):
    world = two(tmp_path, "email_draft")
    assert world.work()
    assert world.live(cancel_a) is CancelOutcome.ENDED
    assert statuses(world) == {"a": ANSWERED, "b": ANSWERED}
    assert faults(world) == []


def test_a_task_in_a_retry_part_that_has_no_row_yet_is_found_there(tmp_path):
    """The poller dies between claiming for the retry part and opening it."""
    world = World(tmp_path, batching())
    world.publish(task("a", "content_generation", "[sim:500-once]"), task("b", "content_generation"))
    world.live(ended_at_the_provider)

    async def collect(life: Life) -> None:
        await collect_due(life.system)

    with pytest.raises(Crash):
        world.live(collect, Dies("parts.apply"))

    async def look(life: Life) -> None:
        assert life.system.parts.get([life.row("a").holder]) == [None]
        assert await cancel_a(life) is CancelOutcome.CANCELLED

    world.live(look)
    assert world.work()
    assert statuses(world) == {"a": CANCELLED, "b": ANSWERED}
    assert faults(world) == []


def test_a_name_given_twice_is_one_cancel_and_nobody_is_none(tmp_path):
    world = two(tmp_path)
    world.live(drained)

    async def story(life: Life) -> None:
        assert cancel_tasks(life.system, [A, B, A]) == [CancelOutcome.CANCELLED] * 3
        assert cancel_tasks(life.system, []) == []
        assert life.engine.ledger.total() == Receipt.sum(Receipt.of(life.record(name)) for name in "ab")

    world.live(story)


# --- batches -------------------------------------------------------------------------------------------------------


def stop(unanswered: Unanswered) -> Story:
    async def story(life: Life) -> None:
        stop_batch(life.system, life.batch().batch_id, unanswered)
        await life.collect()

    return story


@pytest.mark.parametrize("unanswered", list(Unanswered))
def test_a_running_batch_is_cancelled_and_what_it_answered_is_kept(tmp_path, unanswered):
    world = two(tmp_path, scenario=batching(cancel_s=120))
    world.live(running)

    async def half_way(life: Life) -> None:
        await life.pass_time(330)  # one of two lines is done
        await stop(unanswered)(life)
        [batch] = world.provider.state()["batches"]
        assert batch["status"] == "cancelling"

    world.live(half_way)
    assert world.work()
    ends = statuses(world)
    assert sorted(ends.values()) == sorted([ANSWERED, CANCELLED if unanswered is Unanswered.CANCEL else ANSWERED])
    assert len(world.provider.billed) == (1 if unanswered is Unanswered.CANCEL else 2)
    assert len(world.provider.state()["batches"]) == (1 if unanswered is Unanswered.CANCEL else 2)
    assert faults(world) == []

    async def counted(life: Life) -> None:
        assert life.engine.ledger.total().repaid == 0
        [first, *_] = life.engine.batches.scan()
        again = unanswered is Unanswered.AGAIN
        assert (first.tally.answered, first.tally.retried, first.tally.cancelled) == (1, int(again), int(not again))
        assert all(life.row(name).strikes.failures == 0 for name in "ab")

    world.live(counted)


@pytest.mark.parametrize("unanswered", list(Unanswered))
@pytest.mark.parametrize("reached", [sealed, running])
def test_a_crash_before_or_after_any_call_that_stops_a_batch_is_mended_by_the_poller(tmp_path, reached, unanswered):
    clean, plan = two(tmp_path / "clean"), CrashPlan()
    clean.live(reached)
    clean.live(stop(unanswered), plan)
    for crash in every_crash(len(plan.calls)):
        world = two(tmp_path / f"{crash.at}-{crash.side.name}")
        world.live(reached)
        with pytest.raises(Crash):
            world.live(stop(unanswered), crash)
        written = "batches.apply" in plan.calls[: crash.at - (crash.side is Side.BEFORE)]
        assert world.work()
        end = CANCELLED if written and unanswered is Unanswered.CANCEL else ANSWERED
        assert statuses(world) == {"a": end, "b": end}, crash
        assert faults(world) == [], crash


@pytest.mark.parametrize("unanswered", list(Unanswered))
def test_a_batch_that_was_not_submitted_is_called_off_without_asking_the_provider(tmp_path, unanswered):
    world = two(tmp_path)
    world.live(sealed)
    world.live(stop(unanswered))
    assert world.work()
    if unanswered is Unanswered.CANCEL:
        assert statuses(world) == {"a": CANCELLED, "b": CANCELLED}
        assert told(world) == [("a", "cancelled")]
    else:
        assert statuses(world) == {"a": ANSWERED, "b": ANSWERED}
    assert len(world.provider.state()["batches"]) == (unanswered is Unanswered.AGAIN)
    assert faults(world) == []


def test_a_batch_whose_creation_lost_its_reply_is_found_and_cancelled(tmp_path):
    world = two(tmp_path, scenario=batching(list_lag_s=30, mishaps=(Mishap(kind=MishapKind.REPLY_LOST),)))

    async def submitting(life: Life) -> None:
        life.accept()
        await life.assemble()
        assert life.batch().state is BatchState.SUBMITTING

    world.live(submitting)
    world.live(stop(Unanswered.CANCEL))
    assert world.work()
    assert [batch["status"] for batch in world.provider.state()["batches"]] == ["cancelled"]
    assert statuses(world) == {"a": CANCELLED, "b": CANCELLED}
    assert faults(world) == []


def test_a_batch_that_was_uploaded_and_not_created_leaves_no_file_behind(tmp_path):
    world = two(tmp_path)

    async def submit(life: Life) -> None:
        life.accept()
        await life.assemble()

    with pytest.raises(Crash):
        world.live(submit, Dies("batch_apis.openai.prepare", Side.AFTER))
    assert len(world.provider.state()["files"]) == 1
    world.live(stop(Unanswered.CANCEL))
    assert world.work()
    assert world.provider.state()["batches"] == []
    later(world.clock, 3_600)

    async def swept(life: Life) -> None:
        assert (await sweep(life.system)).files == 1

    world.live(swept)
    assert faults(world) == []


@pytest.mark.parametrize("unanswered", list(Unanswered))
def test_a_batch_that_was_called_off_before_its_upload_uploads_nothing(tmp_path, unanswered):
    world = two(tmp_path)

    async def submit(life: Life) -> None:
        life.accept()
        await life.assemble()

    with pytest.raises(Crash):
        world.live(submit, Dies("batch_apis.openai.prepare", Side.BEFORE))
    world.live(stop(unanswered))

    async def turn(life: Life) -> None:
        assert life.batch().state is BatchState.UPLOADING
        plan = CrashPlan()
        await submit_due(plan.guard_system(life.system))
        assert [call for call in plan.calls if call.startswith("batch_apis")] == []
        assert life.batch().state is BatchState.RUNNING  # to be collected like one that never ran

    world.live(turn)
    assert world.work()
    end = CANCELLED if unanswered is Unanswered.CANCEL else ANSWERED
    assert statuses(world) == {"a": end, "b": end}
    assert faults(world) == []


@pytest.mark.parametrize("reached", [sealed, uploading])
def test_a_batch_that_was_called_off_is_not_waited_for(tmp_path, reached):
    """It had been put off before the order, and again by whoever had it in hand when the order came."""
    world = two(tmp_path)
    world.live(reached)
    world.live(stop(Unanswered.CANCEL))

    async def story(life: Life) -> None:
        row = life.batch()
        put_off = row.model_copy(update={"not_before": life.system.clock.now() + timedelta(hours=1)})
        assert (await submit(life.system, put_off)).state is BatchState.RUNNING
        assert await life.collect() == 1

    world.live(story)
    assert statuses(world) == {"a": CANCELLED, "b": CANCELLED}
    assert faults(world) == []


def test_a_cancel_that_the_provider_did_not_hear_is_repeated_by_the_poller(tmp_path):
    outage = Window(kind=WindowKind.OUTAGE, from_s=60, to_s=180)
    world = two(tmp_path, scenario=Scenario(batch=BatchWeather(min_s=6_000, max_s=6_000), windows=(outage,)))

    async def story(life: Life) -> None:
        await running(life)
        await life.pass_time(100)
        await stop(Unanswered.CANCEL)(life)
        [batch] = world.provider.state()["batches"]
        assert batch["status"] not in ("cancelling", "cancelled")
        await life.finish()

    world.live(story)
    assert [batch["status"] for batch in world.provider.state()["batches"]] == ["cancelled"]
    assert statuses(world) == {"a": CANCELLED, "b": CANCELLED}
    assert faults(world) == []


def test_a_batch_that_has_ended_or_never_was_is_refused(tmp_path):
    world = two(tmp_path)
    assert world.work()

    async def story(life: Life) -> None:
        [done] = life.engine.batches.scan()
        ended = stop_batch(life.system, done.batch_id, Unanswered.CANCEL)
        assert (ended.verdict, ended.row) == (BatchVerdict.REFUSED, done)
        nobody = stop_batch(life.system, "b-nobody", Unanswered.CANCEL)
        assert (nobody.verdict, nobody.row) == (BatchVerdict.REFUSED, None)

    world.live(story)
    assert statuses(world) == {"a": ANSWERED, "b": ANSWERED}


def test_a_cancelled_task_in_a_cancelled_batch_has_one_record_and_one_receipt(tmp_path):
    world = two(tmp_path, scenario=batching(cancel_s=60))
    world.live(running)
    world.live(cancel_a)
    world.live(stop(Unanswered.CANCEL))
    assert world.work()
    assert statuses(world) == {"a": CANCELLED, "b": CANCELLED}
    assert told(world) == [("a", "cancelled")]
    assert faults(world) == []


class SlowLedger:
    """A ledger whose first entry takes so long to be put that all else has happened before."""

    def __init__(self, ledger, sleep):
        self._ledger, self._sleep = ledger, sleep
        self.total, self.standing = ledger.total, ledger.standing

    def put(self, entries):
        sleep, self._sleep = self._sleep, None
        if sleep is not None:
            sleep()
        self._ledger.put(entries)


def test_an_answer_in_vain_that_is_counted_while_a_cancel_is_at_its_receipt_stays_counted(tmp_path):
    world = two(tmp_path)

    async def story(life: Life) -> None:
        await running(life)
        ledger = SlowLedger(life.system.ledger, lambda: world.meanwhile(life, Life.finish))
        cancel_tasks(replace(life.system, ledger=ledger), [A])

    world.live(story)
    assert statuses(world) == {"a": CANCELLED, "b": ANSWERED}
    assert faults(world) == []


def test_a_cancel_that_was_cut_off_before_it_told_tells_when_it_is_repeated_after_an_answer_in_vain(tmp_path):
    world = two(tmp_path)
    world.live(running)
    with pytest.raises(Crash):
        world.live(cancel_a, Dies("tasks.apply", Side.AFTER))
    later(world.clock, 700)
    world.live(Life.finish)
    assert told(world) == []
    assert world.live(cancel_a) is CancelOutcome.CANCELLED
    assert told(world) == [("a", "cancelled")]
    assert faults(world) == []


@pytest.mark.parametrize("deadline_s", [86_400, 7 * 86_400])
def test_a_task_that_was_cancelled_in_a_batch_that_is_given_up_is_counted_as_repaid(tmp_path, deadline_s):
    """Nobody can tell whether the batch will bill its line: freed or sent again, the other's is counted as well."""
    never = batching(cancel_s=10 * 86_400, mishaps=(Mishap(kind=MishapKind.NEVER_ENDS, batches=(1,)),))
    world = World(tmp_path, never)
    world.publish(*(task(name, "content_generation", deadline_seconds=deadline_s) for name in "ab"))
    world.live(running)
    world.live(cancel_a)
    assert world.work()
    assert statuses(world) == {"a": CANCELLED, "b": ANSWERED}

    async def counted(life: Life) -> None:
        assert {name: life.row(name).repaid for name in "ab"} == {"a": 1, "b": 1}
        assert life.engine.ledger.total().repaid == 2

    world.live(counted)
    assert faults(world) == []


def test_what_is_cancelled_with_a_batch_that_is_given_up_is_counted_as_repaid(tmp_path):
    never = batching(cancel_s=10 * 86_400, mishaps=(Mishap(kind=MishapKind.NEVER_ENDS),))
    world = two(tmp_path, scenario=never)
    world.live(running)
    world.live(stop(Unanswered.CANCEL))
    assert world.work()
    assert statuses(world) == {"a": CANCELLED, "b": CANCELLED}

    async def counted(life: Life) -> None:
        assert life.engine.ledger.total().repaid == 2

    world.live(counted)
