"""Types that say ``auto``: a cheap model is asked for the profile, once a task, and what it cost is in the receipt."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lowtide.core.lanes import Lane
from lowtide.core.records import ResultRecord, Status
from lowtide.core.routes import PROFILES, Auto, Routes, TypeSpec
from lowtide.core.task import custom_id
from lowtide.core.tasks import Choose, TaskState
from lowtide.core.tiers import Tier
from lowtide.steps.cancel import cancel_tasks
from lowtide.steps.redrive import redrive
from lowtide_local.engine.crashes import Crash, CrashPlan, Side, every_crash
from lowtide_local.run.reconcile import BilledLine, checks
from lowtide_local.run.records import settled
from lowtide_local.simulator.scenario import BatchWeather, Latencies, Latency, Scenario, Window, WindowKind
from tests.steps.one_tier import invoked
from tests.sweep.world import Dies, Life, World, later, routes

CALL = "answers.openai.answer"
ASKER, STANDARD, COMPLEX = (routes().profiles[profile] for profile in PROFILES)


def asking(**settings: Any) -> Routes:
    """Routes under which analyses, drafts and reports are ``auto``."""
    tiers = {"document_analysis": Tier.NORMAL, "email_draft": Tier.HIGH, "report_generation": Tier.LOW}
    types = {kind: TypeSpec(tier=tier, model="auto") for kind, tier in tiers.items()}
    return routes().model_copy(update={"types": routes().types | types, "auto": Auto(**settings)})


def paying(task_id: str, kind: str, says: str = "simple", **payload: Any) -> dict[str, Any]:
    return {"task_id": task_id, "type": kind, "payload": {"text": f"Say which. [sim:says-{says}]", **payload}}


def beyond_the_question(task_id: str, kind: str, mark: str) -> dict[str, Any]:
    """The mark lies where a question does not reach."""
    return {"task_id": task_id, "type": kind, "payload": {"text": "x" * 3_000 + mark}}


def begin(tmp_path: Path, *messages: object, scenario: Scenario | None = None, **settings: Any) -> World:
    world = World(tmp_path, scenario or Scenario(), routes=asking(**settings))
    world.publish(*messages)
    return world


async def on_tier(life: Life, tier: Tier) -> None:
    life.accept()
    for _ in range(40):
        await life.answer(tier)
        if not life.waiting(tier):
            return
        await life.pass_time(10)
    raise AssertionError(f"there is no end to {tier}")


def unreconciled(life: Life) -> list[str]:
    lines = [BilledLine.of(line) for line in life.world.provider.billing()["data"]]
    made = checks(life.system, life.engine, life.engine.ledger.total(), lines)
    return [f"{check.name}: {check.detail}" for check in made if not check.held]


def questions(world: World) -> list[str]:
    """The ids of those that the provider billed."""
    return [str(line.id) for line in world.provider.billed if "-q" in str(line.id)]


@pytest.mark.parametrize(("says", "model"), [("simple", ASKER), ("standard", STANDARD), ("complex", COMPLEX)])
def test_a_real_time_task_is_answered_by_the_model_of_the_profile_that_was_said(tmp_path, says, model):
    world = begin(tmp_path, paying("a", "email_draft", says))

    async def story(life: Life) -> None:
        await on_tier(life, Tier.HIGH)
        record = life.record("a")
        assert (record.status, record.model, record.attempts) == (Status.ANSWERED, model, 1)
        assert f"auto: {says}, {ASKER} was asked" in record.route
        [question] = questions(world)
        bill = [BilledLine.of(line) for line in world.provider.billing()["data"]]
        costs = {b.ours: life.system.prices.cost(b.model, b.lane, b.usage, b.at.date()) for b in bill}
        assert set(costs) == {question, custom_id("default", "a", 1)}
        assert record.cost_usd == sum(costs.values())
        assert record.list_cost_usd == costs[custom_id("default", "a", 1)]
        assert life.engine.ledger.total().cost_usd == record.cost_usd
        assert unreconciled(life) == []

    world.live(story)


def test_a_low_task_is_asked_about_in_real_time_and_answered_in_a_batch_of_its_model(tmp_path):
    names = {"a": "simple", "b": "complex", "c": "simple"}
    world = begin(tmp_path, *(paying(name, "report_generation", says) for name, says in names.items()))

    async def story(life: Life) -> None:
        await on_tier(life, Tier.NORMAL)
        assert {life.row(name).state for name in names} == {TaskState.QUEUED}
        await life.finish()
        for name, says in names.items():
            record = life.record(name)
            assert (record.status, record.lane, record.tier) == (Status.ANSWERED, Lane.BATCH, Tier.LOW)
            assert (record.model, record.attempts) == (life.system.routes.profiles[says], 1)
            assert record.cost_usd is not None
            assert record.cost_usd > life.row(name).strikes.spent_usd > 0
        assert len(questions(world)) == len(names)
        assert Counter(row.lot.model for row in life.engine.batches.scan()) == {ASKER: 1, COMPLEX: 1}
        assert unreconciled(life) == []

    world.live(story)


def test_what_is_not_worth_asking_is_complex_and_nobody_is_asked(tmp_path):
    world = begin(tmp_path, paying("a", "document_analysis"), model="gpt-5.4-pro", max_tokens=1_000)

    async def story(life: Life) -> None:
        await on_tier(life, Tier.NORMAL)
        record = life.record("a")
        assert record.model == COMPLEX
        assert "auto: complex, as asking would cost what it could save" in record.route
        assert questions(world) == []

    world.live(story)


def test_a_reply_that_cannot_be_read_is_standard_and_in_the_receipt(tmp_path):
    world = begin(tmp_path, paying("a", "email_draft", "perhaps"))

    async def story(life: Life) -> None:
        await on_tier(life, Tier.HIGH)
        assert life.record("a").model == STANDARD
        assert len(questions(world)) == 1
        assert unreconciled(life) == []

    world.live(story)


def test_a_task_that_is_tried_again_is_not_asked_about_again(tmp_path):
    world = begin(tmp_path, beyond_the_question("a", "email_draft", "[sim:500-once]"))

    async def story(life: Life) -> None:
        await on_tier(life, Tier.HIGH)
        record = life.record("a")
        assert (record.status, record.attempts) == (Status.ANSWERED, 2)
        assert len(questions(world)) == 1
        assert unreconciled(life) == []

    world.live(story)


def test_a_task_that_dies_still_shows_what_asking_cost(tmp_path):
    world = begin(tmp_path, beyond_the_question("a", "email_draft", "[sim:refuse]"))

    async def story(life: Life) -> None:
        await on_tier(life, Tier.HIGH)
        record = life.record("a")
        assert record.status is Status.DEAD
        assert record.cost_usd is not None
        assert record.cost_usd > 0
        assert unreconciled(life) == []

    world.live(story)


class Wordless:
    """A provider whose replies to questions do not say what they used. They are billed all the same."""

    def __init__(self, api: Any) -> None:
        self._api = api

    async def answer(self, call: Any) -> Any:
        response = await self._api.answer(call)
        return replace(response, body=response.body | {"usage": None}) if "-q" in call.call_id else response


@pytest.mark.parametrize("kind", ["email_draft", "report_generation"])
def test_a_question_without_a_price_leaves_the_task_without_one(tmp_path, kind):
    world = begin(tmp_path, paying("a", kind))

    async def story(life: Life) -> None:
        answers = {"openai": Wordless(life.system.answers["openai"])}
        life = replace(life, system=replace(life.system, answers=answers))
        await on_tier(life, Tier.HIGH if kind == "email_draft" else Tier.NORMAL)
        await life.finish()
        record = life.record("a")
        assert (record.status, record.model, record.cost_usd) == (Status.ANSWERED, ASKER, None)
        total = life.engine.ledger.total()
        assert (total.unpriced, total.cost_usd, total.saved_usd) == (1, 0, 0)
        assert life.row("a").choice.question_id in questions(world)

    world.live(story)


def test_a_question_without_a_reply_costs_the_task_a_few_seconds_and_no_attempt(tmp_path):
    """Billed all the same: nobody can know, so it counts as repaid."""
    slow = Latency(min_s=8, max_s=8)
    scenario = Scenario(latency=Latencies(default=slow, flex=slow))
    world = begin(tmp_path, paying("a", "email_draft"), scenario=scenario)

    async def story(life: Life) -> None:
        await on_tier(life, Tier.HIGH)
        record = life.record("a")
        assert (record.status, record.model, record.attempts) == (Status.ANSWERED, STANDARD, 1)
        assert f"{ASKER} did not answer" in record.route
        assert (record.finished_at - record.accepted_at).total_seconds() == pytest.approx(13, abs=0.5)
        assert life.row("a").repaid == 1
        assert unreconciled(life) == []

    world.live(story)


@pytest.mark.parametrize(
    ("kind", "tier", "seconds"),
    [
        ("live_chat_response", Tier.CRITICAL, 15),
        ("email_draft", Tier.HIGH, 35),
        ("document_analysis", Tier.NORMAL, 295),
    ],
)
def test_an_invocation_is_long_enough_for_a_question_and_its_call_in_every_tier(tmp_path, kind, tier, seconds):
    said = asking().model_copy(update={"types": asking().types | {kind: TypeSpec(tier=tier, model="auto")}})
    world = World(tmp_path, Scenario(), routes=said)
    world.publish(paying("a", kind))

    async def story(life: Life) -> None:
        life.accept()
        await invoked(life, tier, seconds)
        assert (life.record("a").status, life.record("a").attempts) == (Status.ANSWERED, 1)
        assert len(questions(world)) == 1

    world.live(story)


class SlowToWrite:
    """Tasks of a table that takes a minute over its first choice."""

    def __init__(self, tasks: Any) -> None:
        self._tasks = tasks
        self._slow = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)

    def apply(self, changes: Any, now: Any) -> Any:
        if self._slow and isinstance(changes[0].event, Choose):
            self._slow = False
            asyncio.get_running_loop().jump(60)  # type: ignore[attr-defined]  # a VirtualLoop
        return self._tasks.apply(changes, now)


def test_no_call_is_begun_that_would_outlive_its_claim(tmp_path):
    latency = Latency(min_s=2, max_s=2)
    world = begin(
        tmp_path, paying("a", "email_draft"), scenario=Scenario(latency=Latencies(default=latency, flex=latency))
    )

    async def story(life: Life) -> None:
        life.accept()
        object.__setattr__(life.system, "tasks", SlowToWrite(life.system.tasks))
        await life.answer(Tier.HIGH)
        assert len(world.provider.billed) == 1
        assert (life.row("a").state, life.row("a").repaid) == (TaskState.QUEUED, 0)
        await life.pass_time(60)
        await life.answer(Tier.HIGH)
        assert (life.record("a").status, life.record("a").attempts) == (Status.ANSWERED, 2)
        assert len(questions(world)) == 1
        assert life.row("a").repaid == 0
        assert unreconciled(life) == []

    world.live(story)


def test_an_account_that_is_refused_when_asking_halts_and_leaves_the_choice_open(tmp_path):
    scenario = Scenario(windows=(Window(kind=WindowKind.QUOTA, from_s=0, to_s=60),))
    world = begin(tmp_path, paying("a", "email_draft"), scenario=scenario)

    async def story(life: Life) -> None:
        life.accept()
        report = await life.answer(Tier.HIGH)
        assert report.halted is not None
        assert (life.row("a").state, life.row("a").choice) == (TaskState.QUEUED, None)
        await life.pass_time(400)
        await life.answer(Tier.HIGH)
        assert (life.record("a").model, life.record("a").status) == (ASKER, Status.ANSWERED)

    world.live(story)


def crashed_at(tmp_path: Path, nth: int) -> World:
    """The process died when the ``nth`` call to the provider had been answered, and was started a while later."""
    world = begin(tmp_path, paying("a", "email_draft"))
    with pytest.raises(Crash):
        world.live(lambda life: on_tier(life, Tier.HIGH), Dies(CALL, Side.AFTER, nth))
    later(world.clock, 200)
    return world


def test_a_question_lost_with_its_process_is_asked_once_more_and_counted_as_repaid(tmp_path):
    world = crashed_at(tmp_path, 1)

    async def story(life: Life) -> None:
        assert life.row("a").choice is None
        await on_tier(life, Tier.HIGH)
        row = life.row("a")
        assert row.choice is not None
        assert (row.state, row.repaid, row.choice.question_id) == (TaskState.ANSWERED, 1, questions(world)[1])
        assert unreconciled(life) == []

    world.live(story)


def test_a_call_lost_with_its_process_does_not_bring_the_question_again(tmp_path):
    world = crashed_at(tmp_path, 2)

    async def story(life: Life) -> None:
        await on_tier(life, Tier.HIGH)
        assert (life.record("a").status, life.row("a").repaid) == (Status.ANSWERED, 1)
        assert len(questions(world)) == 1
        assert unreconciled(life) == []

    world.live(story)


def test_a_task_cancelled_while_its_question_is_out_is_not_called_and_the_question_is_repaid(tmp_path):
    slow = Scenario(latency=Latencies(default=Latency(min_s=3, max_s=3)))
    world = begin(tmp_path, paying("a", "email_draft"), scenario=slow)

    async def cancelled(life: Life) -> None:
        await life.pass_time(1)
        cancel_tasks(life.system, [("default", "a")])

    async def story(life: Life) -> None:
        life.accept()
        await asyncio.gather(life.answer(Tier.HIGH), cancelled(life))
        await on_tier(life, Tier.HIGH)
        assert (life.record("a").status, life.row("a").repaid) == (Status.CANCELLED, 1)
        assert [str(line.id) for line in world.provider.billed] == questions(world)
        assert unreconciled(life) == []

    world.live(story)


DAY = (
    paying("draft", "email_draft", "complex"),
    paying("study", "document_analysis", "simple"),
    paying("report-1", "report_generation", "simple"),
    paying("report-2", "report_generation", "standard"),
    beyond_the_question("poison", "report_generation", "[sim:refuse]"),
)
AROUND = {CALL, "tasks.apply", "low.send", "low.delete", "normal.delete", "high.delete", "normal.defer", "high.defer"}
WEATHER = Scenario(
    latency=Latencies(default=Latency(min_s=0.5, max_s=2.0), flex=Latency(min_s=2.0, max_s=8.0)),
    batch=BatchWeather(min_s=90, max_s=90, list_lag_s=30),
)


def the_day(directory: Path) -> World:
    return begin(directory, *DAY, scenario=WEATHER)


def faults(world: World) -> list[str]:
    async def look(life: Life) -> list[str]:
        records: dict[str, ResultRecord] = {
            document.record.task_id: document.record for _, document in settled(life.system, life.engine)
        }
        told = unreconciled(life)
        if set(records) != {each["task_id"] for each in DAY}:
            return [*told, f"only {sorted(records)} have ended"]
        for name, record in records.items():
            if record.status is not (Status.DEAD if name == "poison" else Status.ANSWERED):
                told.append(f"{name} is {record.status}")
            if record.tier is Tier.LOW and record.lane is not Lane.BATCH:
                told.append(f"{name} went by {record.lane}")
            if life.row(name).choice is None:
                told.append(f"{name} has no choice")
        repaid = sum(life.row(name).repaid for name in records)
        if len(questions(world)) > len(DAY) + repaid:
            told.append(f"{len(questions(world))} questions, {repaid} repaid")
        return told

    return world.live(look)


@pytest.mark.parametrize("chunk", range(4))
def test_a_crash_at_any_call_around_a_question_loses_nothing_and_pays_for_nothing_uncounted(tmp_path, chunk):
    world, plan = the_day(tmp_path / "clean"), CrashPlan()
    assert world.work(plan)
    assert faults(world) == []
    assert len(questions(world)) == len(DAY)
    broken = []
    around = [crash for crash in every_crash(len(plan.calls)) if plan.calls[crash.at - 1] in AROUND]
    for number, crash in list(enumerate(around))[chunk::4]:
        world = the_day(tmp_path / f"{crash.at}-{crash.side.name}")
        world.voids = number // 4 % 2 == 0  # otherwise claims of the dead are waited out, as on AWS
        assert not world.work(crash), f"{crash} never came"
        later(world.clock, 1)
        assert world.work()
        broken += [f"{crash}: {fault}" for fault in faults(world)]
    assert broken == []


def test_a_dead_task_redriven_under_routes_that_ask_no_more_keeps_the_price_of_its_question(tmp_path):
    world = the_day(tmp_path)
    assert world.work()

    async def story(life: Life) -> None:
        asked_usd = life.record("poison").cost_usd
        assert asked_usd
        redrive(life.system, [("default", "poison")])
        assert life.waiting(Tier.LOW) == 1
        await life.finish()
        record = life.record("poison")
        assert (record.status, record.model, record.cost_usd) == (Status.DEAD, COMPLEX, asked_usd)
        assert unreconciled(life) == []

    world.routes = routes()
    world.live(story)
