"""The real-time tiers: claimed immediately before the call, settled on its own, given back when there is no answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from lowtide.core.lanes import Lane
from lowtide.core.records import Status
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Outgoing
from lowtide.steps.answer import answer
from lowtide.steps.slots import Slots
from lowtide_local.simulator.scenario import CallFaults, Scenario, Window, WindowKind
from tests.steps.one_tier import answered, begin, invoked, slow
from tests.sweep.world import Life, World, routes, task

ANSWERED, DEAD = Status.ANSWERED, Status.DEAD
CALL = "answers.openai.answer"


@pytest.mark.parametrize(
    ("kind", "tier", "lane"),
    [
        ("live_chat_response", Tier.CRITICAL, Lane.DEFAULT),
        ("email_draft", Tier.HIGH, Lane.DEFAULT),
        ("meeting_summary", Tier.NORMAL, Lane.FLEX),
    ],
)
def test_each_tier_is_answered_on_its_lane_and_its_message_is_gone(tmp_path, kind, tier, lane):
    world = begin(tmp_path, task("a", kind))

    async def story(life: Life) -> None:
        await answered(life, tier)
        record = life.record("a")
        assert (record.status, record.tier, record.lane, record.attempts) == (ANSWERED, tier, lane, 1)
        assert life.engine.ledger.total().cost_usd == record.cost_usd

    world.live(story)


@pytest.mark.parametrize(
    "messages",
    [
        [{"tasks": [task("a", "email_draft"), task("a", "email_draft")]}],
        [task("a", "email_draft"), task("a", "email_draft")],
        [task("a", "email_draft"), task("a", "email_draft", tags={"team": "growth"}, retry_count=3)],
    ],
)
def test_two_tasks_with_the_same_id_and_content_are_one_answer_and_one_duplicate(tmp_path, messages):
    world = begin(tmp_path, *messages)

    async def story(life: Life) -> None:
        await answered(life)
        total = life.engine.ledger.total()
        assert (total.tasks, total.answered, total.duplicates, total.repaid) == (1, 1, 1, 0)

    world.live(story)
    assert len(world.provider.billed) == 1


def test_a_duplicate_that_comes_long_after_the_answer_is_counted_and_asked_nothing(tmp_path):
    world = begin(tmp_path, task("a", "email_draft"))
    world.live(answered)
    world.publish(task("a", "email_draft"))

    async def story(life: Life) -> None:
        await answered(life)
        assert (life.engine.ledger.total().tasks, life.engine.ledger.total().duplicates) == (1, 1)

    world.live(story)
    assert len(world.provider.billed) == 1


def test_another_task_under_the_same_id_is_refused_and_the_first_one_untouched(tmp_path):
    world = begin(tmp_path, task("a", "email_draft"))
    world.live(answered)
    before = world.live(_row)
    world.publish(task("a", "email_draft", "Something else."))

    async def story(life: Life) -> None:
        await answered(life)
        [letter] = life.letters()
        assert (letter["error"]["code"], letter["task"]["task_id"]) == ("id_conflict", "a")
        assert life.row("a") == before
        assert life.engine.ledger.total().refused == 1

    world.live(story)


async def _row(life: Life):
    return life.row("a")


def test_a_poison_message_on_a_tier_s_queue_is_a_dead_letter_and_harms_nothing_around_it(tmp_path):
    world = begin(tmp_path, task("a", "email_draft"), task("b", "email_draft", "[sim:refuse]"))

    async def story(life: Life) -> None:
        life.system.tiers[Tier.HIGH].send([Outgoing(body="no JSON"), Outgoing(body='{"tasks": [7]}')])
        await answered(life)
        assert (life.record("a").status, life.record("b").status) == (ANSWERED, DEAD)
        codes = sorted(letter["error"]["code"] for letter in life.letters())
        assert codes == ["content_policy_violation", "invalid_task", "invalid_task"]

    world.live(story)


def test_a_task_that_failed_three_times_is_dead_with_its_three_attempts(tmp_path):
    world = begin(tmp_path, task("a", "email_draft", "[sim:500]"))

    async def story(life: Life) -> None:
        await answered(life)
        record = life.record("a")
        assert (record.status, record.attempts, record.cost_usd) == (DEAD, 3, Decimal(0))
        [letter] = life.letters()
        assert (letter["error"]["code"], letter["error"]["attempts"]) == ("server_error", 3)

    world.live(story)


def test_a_retry_waits_for_its_backoff_and_not_for_its_neighbours(tmp_path):
    world = begin(tmp_path, task("a", "email_draft", "[sim:500-once]"), task("b", "email_draft"))

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.HIGH)
        assert life.record("b").status is ANSWERED
        row = life.row("a")
        assert (row.state, row.strikes.failures) == (TaskState.QUEUED, 1)
        assert timedelta(0) < row.not_before - life.system.clock.now() <= timedelta(seconds=2)

    world.live(story)


def test_retry_after_is_honoured_and_a_rate_limit_uses_up_no_try(tmp_path):
    scenario = Scenario(calls=CallFaults(retry_after_s=37))
    world = begin(tmp_path, task("a", "email_draft", "[sim:429-once]"), scenario=scenario)

    async def story(life: Life) -> None:
        life.accept()
        began = life.system.clock.now()
        await life.answer(Tier.HIGH)
        row = life.row("a")
        assert timedelta(seconds=37) <= row.not_before - began <= timedelta(seconds=40)
        assert row.strikes.failures == 0
        await life.pass_time(36)
        await life.answer(Tier.HIGH)
        assert world.provider.requests["POST /v1/chat/completions"] == 1
        await life.pass_time(5)
        await life.answer(Tier.HIGH)
        assert (life.record("a").status, life.record("a").attempts) == (ANSWERED, 2)
        assert life.engine.ledger.total().repaid == 0

    world.live(story)


def test_a_storm_of_rate_limits_kills_nobody(tmp_path):
    scenario = Scenario(windows=(Window(kind=WindowKind.RATE_LIMIT, from_s=0, to_s=7_200),))
    world = begin(tmp_path, task("a", "email_draft"), scenario=scenario)

    async def story(life: Life) -> None:
        await answered(life, turns=1_000)
        assert life.record("a").status is ANSWERED
        assert life.row("a").strikes.failures == 0
        assert not life.record("a").deadline_met

    world.live(story)
    assert len(world.provider.billed) == 1


def test_what_flex_refuses_until_time_runs_short_is_bought_on_default_and_in_time(tmp_path):
    world = begin(tmp_path, task("a", "meeting_summary", "[sim:flex-unavailable]"))

    async def story(life: Life) -> None:
        await answered(life, Tier.NORMAL, turns=360)
        record = life.record("a")
        assert (record.lane, record.deadline_met) == (Lane.DEFAULT, True)
        assert 0 < (record.accepted_at + timedelta(hours=1) - record.finished_at).total_seconds() < 900
        assert record.route.endswith("min are left") or record.route.endswith("too short for flex")
        assert record.attempts < 30
        assert life.row("a").strikes.failures == 0

    world.live(story)


def test_an_account_that_is_refused_stops_the_sending_and_nothing_is_lost_or_counted(tmp_path):
    world = begin(tmp_path, *(task(name, "email_draft") for name in "abc"), scenario=Scenario(api_key="another"))

    async def story(life: Life) -> None:
        life.accept()
        report = await life.answer(Tier.HIGH)
        assert report.halted is not None
        assert "invalid_api_key" in report.halted
        assert report.done == ()
        assert {life.row(name).state for name in "abc"} == {TaskState.QUEUED}
        assert {life.row(name).strikes.failures for name in "abc"} == {0}
        assert life.waiting(Tier.HIGH) > 0
        world.provider.scenario = Scenario()
        await life.pass_time(301)
        await answered(life)
        assert {life.record(name).status for name in "abc"} == {ANSWERED}
        assert life.engine.ledger.total().repaid == 0

    world.live(story)


def test_a_quota_that_ran_out_stops_the_sending_too(tmp_path):
    scenario = Scenario(windows=(Window(kind=WindowKind.QUOTA, from_s=0, to_s=100),))
    world = begin(tmp_path, task("a", "email_draft"), scenario=scenario)

    async def story(life: Life) -> None:
        life.accept()
        report = await life.answer(Tier.HIGH)
        assert report.halted is not None
        assert "insufficient_quota" in report.halted
        await answered(life, turns=60)
        assert life.record("a").status is ANSWERED

    world.live(story)


def test_a_heartbeat_keeps_a_long_call_s_message_out_of_other_hands(tmp_path):
    world = begin(tmp_path, task("a", "meeting_summary"), scenario=slow(200))

    async def story(life: Life) -> None:
        life.accept()
        invocation = asyncio.create_task(life.answer(Tier.NORMAL))
        for _ in range(19):
            await life.pass_time(10)
            assert life.system.tiers[Tier.NORMAL].receive(10, visibility_s=60) == []
        await invocation
        assert life.record("a").attempts == 1

    world.live(story)
    assert len(world.provider.billed) == 1


def test_a_dead_consumer_s_message_comes_back_within_its_short_visibility(tmp_path):
    world = begin(tmp_path, task("a", "meeting_summary"), scenario=slow(200), voids=False)

    async def dies_in_flight(life: Life) -> None:
        life.accept()
        async with asyncio.timeout(100):
            await life.answer(Tier.NORMAL)

    with pytest.raises(TimeoutError):
        world.live(dies_in_flight)

    async def after(life: Life) -> None:
        await life.pass_time(60)
        assert len(life.system.tiers[Tier.NORMAL].receive(10, visibility_s=0)) == 1

    world.live(after)


def test_nothing_is_begun_that_could_not_end_before_the_time_is_up(tmp_path):
    world = begin(tmp_path, task("a", "email_draft"))

    async def story(life: Life) -> None:
        life.accept()
        soon = life.system.clock.now() + timedelta(seconds=1)
        report = await life.answer(Tier.HIGH, stop_at=soon)
        assert (len(report.done), len(report.again)) == (0, 1)
        assert life.system.tasks.get(["a default"]) == [None]
        await answered(life)
        assert life.record("a").attempts == 1

    world.live(story)
    assert len(world.provider.billed) == 1


def test_an_answer_that_never_came_may_have_been_billed_and_is_counted_so(tmp_path):
    world = begin(tmp_path, task("a", "email_draft", "[sim:timeout-once]"))

    async def story(life: Life) -> None:
        await answered(life)
        assert (life.record("a").status, life.record("a").attempts, life.row("a").repaid) == (ANSWERED, 2, 1)

    world.live(story)
    assert len(world.provider.billed) == 2


def test_a_record_too_large_for_a_row_lies_in_an_object_and_is_read_from_there(tmp_path):
    world = begin(tmp_path, task("a", "email_draft", "[sim:refuse] " + "long " * 40_000))

    async def story(life: Life) -> None:
        await answered(life)
        row = life.row("a")
        assert row.document is None
        assert row.pointer is not None
        assert life.record("a").status is DEAD
        [letter] = life.letters()
        assert letter["error"]["code"] == "content_policy_violation"

    world.live(story)


def test_no_more_calls_are_in_flight_than_there_are_slots(tmp_path):
    world = begin(tmp_path, {"tasks": [task(f"t{number}", "email_draft") for number in range(9)]}, scenario=slow(10))

    async def story(life: Life) -> None:
        life.accept()
        began = life.system.clock.now()
        await life.answer(Tier.HIGH, slots=3)
        assert life.system.clock.now() - began == timedelta(seconds=30)
        assert life.engine.ledger.total().answered == 9

    world.live(story)


def test_a_message_is_entered_in_the_ledger_once_all_of_it_has_ended(tmp_path):
    """Entered in parts, by two consumers of whom one stood still, it could end as the lesser part."""
    world = World(tmp_path)
    world.publish({"tasks": [task("a", "meeting_summary"), task("b", "meeting_summary", "[sim:500-once]")]})

    async def story(life: Life) -> None:
        life.accept()
        first = await life.answer(Tier.NORMAL)
        assert len(first.again) == 1
        assert life.engine.ledger.total().tasks == 0
        await life.pass_time(60)
        second = await life.answer(Tier.NORMAL)
        assert len(second.done) == 1
        assert life.engine.ledger.total().answered == 2

    world.live(story)


def test_a_message_that_fails_at_its_thousandth_receive_still_fails_alone(tmp_path):
    world = begin(tmp_path, task("a", "email_draft"))

    async def story(life: Life) -> None:
        life.accept()
        [message] = life.system.tiers[Tier.HIGH].receive(10, visibility_s=60)
        old = replace(message, receives=5_000)
        life.system = replace(life.system, tasks=OutOfReach())
        report = await answer(life.system, Tier.HIGH, [old], slots=Slots(1))
        assert (report.done, report.again) == ((), (old,))
        assert world.metrics.total("message_errors") == 1

    world.live(story)


class OutOfReach:
    """Tasks of a table that does not answer."""

    def get(self, keys):
        raise OSError("the table is out of reach")

    def apply(self, changes, now):
        raise OSError("the table is out of reach")


def test_a_call_may_not_take_longer_than_an_invocation_whatever_the_routes_say(tmp_path):
    usual = routes()
    longest = {
        "tiers": usual.tiers | {Tier.NORMAL: usual.tiers[Tier.NORMAL].model_copy(update={"call_timeout_s": 900})}
    }
    flex = usual.lanes.flex.model_copy(update={"call_timeout_s": 900})
    patient = usual.model_copy(update=longest | {"lanes": usual.lanes.model_copy(update={"flex": flex})})
    world = begin(tmp_path, task("a", "meeting_summary", deadline_seconds=21_600), routes=patient)

    async def story(life: Life) -> None:
        life.accept()
        await invoked(life, Tier.NORMAL, 295)
        assert life.record("a").status is ANSWERED

    world.live(story)


def test_a_task_whose_provider_was_renamed_is_called_where_its_model_is_now(tmp_path):
    world = begin(tmp_path, task("a", "meeting_summary"))

    async def story(life: Life) -> None:
        life.accept()
        was, system = life.system.routes, life.system
        models = {name: spec.model_copy(update={"provider": "renamed"}) for name, spec in was.models.items()}
        now = was.model_copy(update={"providers": {"renamed": was.providers["openai"]}, "models": models})
        life.system = replace(system, routes=now, answers={"renamed": system.answers["openai"]})
        await invoked(life, Tier.NORMAL, 295)
        assert (life.record("a").status, life.record("a").attempts) == (ANSWERED, 1)
        assert life.row("a").repaid == 0

    world.live(story)
