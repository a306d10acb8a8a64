"""Dead tasks go round again: one record each, whatever their history, and a ledger that is the sum of the last ones."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from lowtide.core.receipts import Receipt
from lowtide.core.records import Status
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.steps.cancel import cancel_tasks
from lowtide.steps.deliver import document_of
from lowtide.steps.redrive import Redriven, RedriveOutcome, redrive
from lowtide.steps.turns import collect_due
from lowtide_local.engine.crashes import Crash, CrashPlan, Side, every_crash
from tests.steps.books import faults
from tests.sweep.world import Dies, Life, World, later, routes, task

ANSWERED, DEAD, CANCELLED = Status.ANSWERED, Status.DEAD, Status.CANCELLED
FAILS_ONCE = "[sim:500-once]"
CALL, LINE, WELL = ("default", "call"), ("default", "line"), ("default", "well")
SENT, NOT_DEAD = Redriven(RedriveOutcome.SENT), Redriven(RedriveOutcome.NOT_DEAD)
WEEK_S = 7 * 86_400


def one_try(**limits: object):
    """Routes under which the first failure is the last."""
    whole = routes()
    return whole.model_copy(
        update={
            "retries": whole.retries.model_copy(update={"attempts": 1}),
            "limits": whole.limits.model_copy(update=limits),
        }
    )


def begin(tmp_path, *messages: object) -> World:
    world = World(tmp_path, routes=one_try())
    world.publish(*messages)
    return world


def two_that_die(tmp_path, text: str = FAILS_ONCE) -> World:
    """A dead call, a dead line of a batch, and an answered line beside it."""
    # The provider knows a request that it has seen by its text.
    world = begin(
        tmp_path,
        task("call", "email_draft", f"{text} call"),
        {"tasks": [task("line", "content_generation", f"{text} line"), task("well", "content_generation")]},
    )
    assert world.work()
    return world


async def redrive_both(life: Life) -> list[Redriven]:
    return redrive(life.system, [CALL, LINE])


def ends(world: World) -> dict[str, tuple[Status, int, int]]:
    """task_id → status, attempts and generation of every record."""

    async def look(life: Life):
        rows = list(life.engine.tasks.scan())
        return {row.task_id: (document_of(life.system, row).record.status, row.attempt, row.generation) for row in rows}

    return world.live(look)


def test_a_redriven_task_is_answered_in_its_next_generation_and_its_record_is_replaced(tmp_path):
    world = two_that_die(tmp_path)
    assert ends(world) == {"call": (DEAD, 1, 0), "line": (DEAD, 1, 0), "well": (ANSWERED, 1, 0)}
    assert world.live(redrive_both) == [SENT, SENT]
    assert world.work()
    assert ends(world) == {"call": (ANSWERED, 2, 1), "line": (ANSWERED, 2, 1), "well": (ANSWERED, 1, 0)}
    assert faults(world) == []


def test_the_ledger_is_the_sum_of_the_records_before_and_after_a_redrive(tmp_path):
    world = two_that_die(tmp_path)

    async def total(life: Life) -> Receipt:
        return life.engine.ledger.total()

    before = world.live(total)
    assert (before.tasks, before.answered, before.dead) == (3, 1, 2)
    assert faults(world) == []
    world.live(redrive_both)
    between = world.live(total)
    assert (between.tasks, between.answered, between.dead) == (1, 1, 0)
    world.work()
    after = world.live(total)
    assert (after.tasks, after.answered, after.dead) == (3, 3, 0)
    assert after.cost_usd > before.cost_usd > 0


def test_a_task_that_dies_again_has_one_record_one_receipt_and_a_letter_for_each_life(tmp_path):
    world = two_that_die(tmp_path, "[sim:refuse]")
    for _ in range(2):
        assert world.live(redrive_both) == [SENT, SENT]
        assert world.work()
    assert ends(world) == {"call": (DEAD, 3, 2), "line": (DEAD, 3, 2), "well": (ANSWERED, 1, 0)}
    assert faults(world) == []

    async def letters(life: Life) -> list[tuple[str, int]]:
        return sorted((each["task"]["task_id"], each["error"]["attempts"]) for each in life.letters())

    assert world.live(letters) == [(name, attempt) for name in ("call", "line") for attempt in (1, 2, 3)]


def test_what_is_not_dead_is_left_alone(tmp_path):
    world = two_that_die(tmp_path)

    async def story(life: Life) -> None:
        assert redrive(life.system, [WELL, ("default", "nobody"), ("acme", "call")]) == [NOT_DEAD] * 3
        assert redrive(life.system, []) == []
        assert life.row("well").generation == 0
        assert not any(life.waiting(tier) for tier in Tier)

    world.live(story)


def test_a_task_that_is_named_twice_is_sent_once(tmp_path):
    world = two_that_die(tmp_path)

    async def story(life: Life) -> None:
        assert redrive(life.system, [CALL, CALL]) == [SENT, SENT]
        assert life.waiting(Tier.HIGH) == 1

    world.live(story)


def test_the_deadline_starts_anew_as_long_as_it_was_even_where_it_was_a_moment(tmp_path):
    world = begin(tmp_path, task("call", "email_draft", "[sim:refuse]", deadline_at="2026-11-02T10:00:00Z"))
    assert world.work()
    for _ in range(2):
        later(world.clock, WEEK_S)

        async def story(life: Life) -> None:
            assert redrive(life.system, [CALL]) == [SENT]
            row = life.row("call")
            assert row.accepted_at - world.clock.now() < timedelta(seconds=1)
            assert row.deadline_at - row.accepted_at == timedelta(hours=2)

        world.live(story)
        assert world.work()

    async def told(life: Life) -> None:
        [*_, letter] = life.letters()
        assert letter["task"]["deadline_at"] == "2026-11-02T10:00:00Z"

    world.live(told)


def test_what_the_routes_of_today_refuse_stays_dead_with_the_reason(tmp_path):
    world = two_that_die(tmp_path)
    world.routes = one_try(models=frozenset({"gpt-5"}))

    async def story(life: Life) -> None:
        [refused] = redrive(life.system, [CALL])
        assert refused.outcome is RedriveOutcome.REFUSED
        assert "gpt-5-mini is not allowed" in refused.reason
        assert life.row("call").state is TaskState.DEAD

    world.live(story)
    assert faults(world) == []


def test_a_letter_that_retention_removed_cannot_be_redriven(tmp_path):
    world = two_that_die(tmp_path)

    async def story(life: Life) -> None:
        life.system.objects.delete([life.row("line").pointer.key])
        assert redrive(life.system, [LINE]) == [Redriven(RedriveOutcome.GONE)]
        assert life.row("line").state is TaskState.DEAD

    world.live(story)


def test_the_message_that_died_comes_again_and_claims_nothing_of_the_next_life(tmp_path):
    """The consumer dies between settling and deleting; the operator is faster than the visibility."""
    world = begin(tmp_path, task("call", "email_draft", FAILS_ONCE))

    async def die(life: Life) -> None:
        life.accept()
        await life.answer(Tier.HIGH)

    with pytest.raises(Crash):
        world.live(die, Dies("high.delete"))

    async def operate(life: Life) -> None:
        assert redrive(life.system, [CALL]) == [SENT]

    world.live(operate)
    assert world.work()
    assert ends(world) == {"call": (ANSWERED, 2, 1)}
    assert faults(world) == []

    async def counted(life: Life) -> None:
        assert life.engine.ledger.total().duplicates == 0
        assert life.record("call").deadline_met

    world.live(counted)


def test_a_pack_that_comes_again_for_one_task_does_not_count_its_dead_neighbour_twice(tmp_path):
    world = World(tmp_path)
    world.publish({"tasks": [task("call", "email_draft", "[sim:refuse]"), task("slow", "email_draft", FAILS_ONCE)]})

    async def first_try(life: Life) -> None:
        life.accept()
        await life.answer(Tier.HIGH)
        assert (life.row("call").state, life.row("slow").state) == (TaskState.DEAD, TaskState.QUEUED)
        assert redrive(life.system, [CALL]) == [SENT]

    world.live(first_try)
    assert world.work()
    assert ends(world) == {"call": (DEAD, 2, 1), "slow": (ANSWERED, 2, 0)}
    assert faults(world) == []


@pytest.mark.parametrize("call", ["dead_letters.send", "ledger.put", "batches.apply"])
@pytest.mark.parametrize("side", list(Side))
def test_a_collection_that_is_repeated_after_a_redrive_counts_nothing_twice(tmp_path, call, side):
    """The poller dies while it counts a batch; the operator redrives before anybody collects the rest."""
    world = begin(
        tmp_path, {"tasks": [task("line", "content_generation", FAILS_ONCE), task("well", "content_generation")]}
    )

    async def run(life: Life) -> None:
        life.accept()
        await life.assemble()

    async def collect(life: Life) -> None:
        await collect_due(life.system)

    world.live(run)
    # The third write to the batch's row is the one after its collection: the lease, ``Collect``, ``Clean``.
    plan = Dies(call, side, nth=3 if call == "batches.apply" else 1)
    with pytest.raises(Crash):
        world.live(collect, plan)

    async def operate(life: Life) -> None:
        assert redrive(life.system, [LINE]) == [SENT]

    world.live(operate)
    assert world.work()
    assert ends(world) == {"line": (ANSWERED, 2, 1), "well": (ANSWERED, 1, 0)}
    assert faults(world) == []


def test_a_duplicate_that_comes_while_the_task_waits_for_its_next_life_is_a_duplicate(tmp_path):
    world = two_that_die(tmp_path)
    world.live(redrive_both)
    world.publish(task("call", "email_draft", f"{FAILS_ONCE} call"))
    assert world.work()
    assert ends(world)["call"] == (ANSWERED, 2, 1)
    assert faults(world) == []

    async def counted(life: Life) -> int:
        return life.engine.ledger.total().duplicates

    assert world.live(counted) == 1


def test_what_failed_attempts_cost_is_carried_into_the_next_life(tmp_path):
    world = two_that_die(tmp_path)

    async def story(life: Life) -> None:
        row = life.row("call")
        record = row.document.record.model_copy(update={"cost_usd": Decimal("0.5")})
        document = row.document.model_copy(update={"record": record})
        life.engine.tasks.amend("dead", {"document": document, "pointer": None})
        redrive(life.system, [CALL])
        assert life.row("call").strikes.spent_usd == Decimal("0.5")

    world.live(story)


def calls_of(directory, story) -> list[str]:
    world, plan = two_that_die(directory), CrashPlan()
    world.live(story, plan)
    return plan.calls


def test_a_crash_before_or_after_any_call_of_a_redrive_is_mended_by_repeating_it(tmp_path):
    calls = calls_of(tmp_path / "clean", redrive_both)
    assert {"tasks.apply", "ledger.put", "high.send", "low.send"} <= set(calls)
    for plan in every_crash(len(calls)):
        world = two_that_die(tmp_path / f"{plan.at}-{plan.side.name}")
        with pytest.raises(Crash):
            world.live(redrive_both, plan)
        world.live(redrive_both)
        assert world.work()
        assert ends(world) == {"call": (ANSWERED, 2, 1), "line": (ANSWERED, 2, 1), "well": (ANSWERED, 1, 0)}, plan
        assert faults(world) == [], plan


def test_a_redrive_that_is_repeated_once_its_message_was_met_does_nothing(tmp_path):
    calls = calls_of(tmp_path / "clean", redrive_both)
    for plan in every_crash(len(calls)):
        world = two_that_die(tmp_path / f"{plan.at}-{plan.side.name}")
        with pytest.raises(Crash):
            world.live(redrive_both, plan)
        assert world.work()  # what was sent is answered before the operator comes back
        world.live(redrive_both)
        assert world.work()
        assert world.live(redrive_both) == [NOT_DEAD, NOT_DEAD]
        assert ends(world) == {"call": (ANSWERED, 2, 1), "line": (ANSWERED, 2, 1), "well": (ANSWERED, 1, 0)}, plan
        assert faults(world) == [], plan


def test_a_redrive_that_was_cut_off_can_still_be_cancelled(tmp_path):
    async def cancel_both(life: Life) -> None:
        cancel_tasks(life.system, [CALL, LINE])

    calls = calls_of(tmp_path / "clean", redrive_both)
    for plan in every_crash(len(calls)):
        world = two_that_die(tmp_path / f"{plan.at}-{plan.side.name}")
        with pytest.raises(Crash):
            world.live(redrive_both, plan)
        world.live(cancel_both)
        assert world.work()
        assert faults(world) == [], plan
        assert {status for status, _, generation in ends(world).values() if generation} <= {CANCELLED}, plan
