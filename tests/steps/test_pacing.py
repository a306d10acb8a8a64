"""The gate before a call: paced with everybody else, held back by a breaker, and no claim or try for what waits."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import orjson
import pytest

from lowtide.core.errors import Contended
from lowtide.core.records import Status
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Call, Outgoing
from lowtide.steps.turns import submit_due
from lowtide_local.simulator.scenario import Latencies, Latency, RateLimit, Scenario, Window, WindowKind
from tests.steps.one_tier import answered, begin, slow, watched
from tests.sweep.world import Life, later, routes, task

ANSWERED, DEAD = Status.ANSWERED, Status.DEAD
MODEL, OTHER = "gpt-5-mini", "gpt-4.1-mini"


def outage(seconds: float, **more: Any) -> Scenario:
    return Scenario(windows=(Window(kind=WindowKind.OUTAGE, from_s=0, to_s=seconds),), **more)


def with_model(**changes: Any):
    spec = routes().model(MODEL).model_copy(update=changes)
    return routes().model_copy(update={"models": {**routes().models, MODEL: spec}})


def drafts(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [task(f"t{number}", "email_draft", **fields) for number in range(count)]


def publish_now(life: Life, body: dict[str, Any]) -> None:
    """While the process is at work: the directory is its own."""
    life.system.intake.send([Outgoing(body=orjson.dumps(body).decode())])


def calls(world) -> int:
    return world.provider.requests["POST /v1/chat/completions"]


def test_a_configured_ceiling_is_kept_by_all_consumers_together(tmp_path):
    ceiling = with_model(requests_per_minute=60)
    world = begin(tmp_path, *({"tasks": drafts(40)[at : at + 4]} for at in range(0, 40, 4)), routes=ceiling)

    async def consumer(life: Life) -> None:
        while life.waiting(Tier.HIGH):
            await life.answer(Tier.HIGH)
            await life.pass_time(1)

    async def story(life: Life) -> None:
        life.accept()
        began = life.system.clock.now()
        await asyncio.gather(*(consumer(life) for _ in range(4)))
        times = sorted((line.at - began).total_seconds() for line in world.provider.billed)
        assert len(times) == 40
        for first, moment in enumerate(times):
            assert sum(each < moment + 10 for each in times[first:]) <= 11
        assert times[-1] <= 80

    world.live(story)


def test_work_that_cannot_go_now_returns_to_its_queue_without_a_claim_or_an_attempt(tmp_path):
    world = begin(tmp_path, *drafts(30), routes=with_model(requests_per_minute=6))

    async def story(life: Life) -> None:
        life.accept()
        began, queue = life.system.clock.now(), watched(life, Tier.HIGH)
        report = await life.answer(Tier.HIGH, visibility_s=None)
        assert 1 <= calls(world) <= 4
        assert life.engine.tasks.counts() == {"answered": calls(world)}  # what waits has no row
        held = [world.metrics.total("calls_held", reason=reason) for reason in ("rate", "slots")]
        assert sum(held) == 30 - calls(world)
        assert len(report.again) == 3
        now = life.system.clock.now()
        assert now - began <= timedelta(seconds=60)
        away_s = [delay_s for write in queue.writes for _, delay_s in write]
        assert len(away_s) == 3
        assert min(away_s) >= 2

    world.live(story)


def test_an_urgent_call_has_its_turn_at_once_while_a_flood_waits_for_its_own(tmp_path):
    flood = [task(f"n{number}", "meeting_summary", model=OTHER) for number in range(60)]
    spec = routes().model(OTHER).model_copy(update={"requests_per_minute": 60})
    paced = routes().model_copy(update={"models": {**routes().models, OTHER: spec}})
    world = begin(tmp_path, {"tasks": flood}, routes=paced)

    async def story(life: Life) -> None:
        life.accept()
        flooding = asyncio.create_task(life.answer(Tier.NORMAL, slots=30))
        await life.pass_time(5)
        publish_now(life, task("urgent", "live_chat_response", model=OTHER))
        life.accept()
        began = life.system.clock.now()
        await life.answer(Tier.CRITICAL)
        assert life.record("urgent").status is ANSWERED
        assert (life.system.clock.now() - began) <= timedelta(seconds=3)
        await flooding

    world.live(story)


def test_the_limit_in_the_provider_s_headers_is_kept_without_any_configuration(tmp_path):
    limit = RateLimit(requests_per_minute=60, burst_s=1)
    latency = Latency(min_s=0.5, max_s=0.5)
    scenario = Scenario(limits={MODEL: limit}, latency=Latencies(default=latency))
    world = begin(tmp_path, {"tasks": drafts(40)}, scenario=scenario)

    async def story(life: Life) -> None:
        await answered(life)
        [row] = [row for row in life.engine.paces.scan() if not row.of_account]
        assert row.requests_limit == 60
        assert {life.record(f"t{number}").status for number in range(40)} == {ANSWERED}

    world.live(story)
    # Ten began before the first answer told the limit, and nobody after.
    assert world.provider.limited <= 10


def test_an_outage_costs_no_task_its_life_and_hardly_any_a_try(tmp_path):
    world = begin(tmp_path, *drafts(20), scenario=outage(600))

    async def story(life: Life) -> None:
        await answered(life, turns=200)
        rows = [life.row(f"t{number}") for number in range(20)]
        assert {row.state for row in rows} == {TaskState.ANSWERED}
        assert sum(row.strikes.failures for row in rows) < 10
        assert life.engine.ledger.total().repaid == 0

    world.live(story)
    # Ten at once before anybody knew, then single probes.
    assert calls(world) - 20 <= 10 + 15
    assert world.metrics.events().count("breaker_open") >= 1
    assert world.metrics.events()[-1:] != ["breaker_open"]


def test_while_the_breaker_is_open_tasks_wait_in_their_queue_unclaimed(tmp_path):
    world = begin(tmp_path, *drafts(20), scenario=outage(600))

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.HIGH)
        made, rows = calls(world), life.engine.tasks.counts()
        publish_now(life, {"tasks": [task(f"new{number}", "email_draft") for number in range(10)]})
        life.accept()
        report = await life.answer(Tier.HIGH)
        assert len(report.again) >= 1
        assert sum(life.engine.tasks.counts().values()) - sum(rows.values()) == calls(world) - made <= 2

    world.live(story)


def test_a_poison_task_that_always_fails_dies_of_it_while_others_are_answered(tmp_path):
    world = begin(tmp_path, task("poison", "email_draft", "[sim:500]"), *drafts(5))

    async def story(life: Life) -> None:
        await answered(life)
        assert (life.record("poison").status, life.record("poison").attempts) == (DEAD, 3)
        assert {life.record(f"t{number}").attempts for number in range(5)} == {1}

    world.live(story)


def test_one_model_s_outage_stops_only_its_own_tasks(tmp_path):
    poison = drafts(6, text="[sim:503]")
    fine = [task(f"fine{number}", "email_draft", model=OTHER) for number in range(6)]
    world = begin(tmp_path, *poison, *fine)

    async def story(life: Life) -> None:
        life.accept()
        for _ in range(6):
            await life.answer(Tier.HIGH)
            await life.pass_time(10)
        assert {life.record(each["task_id"]).attempts for each in fine} == {1}
        assert [row.key for row in life.system.paces.active()] == [f"openai {MODEL}"]
        assert not life.letters()

    world.live(story)


def test_where_a_model_is_down_its_fallback_answers_at_its_own_price_and_the_route_says_so(tmp_path):
    world = begin(tmp_path, *drafts(8), routes=with_model(fallback=OTHER))

    async def story(life: Life) -> None:
        life = down_for(life, MODEL)
        await answered(life)
        records = [life.record(f"t{number}") for number in range(8)]
        assert {record.model for record in records} == {OTHER}
        assert all(f"{MODEL} is down, so {OTHER}" in record.route for record in records)
        price = life.system.prices.cost(OTHER, records[0].lane, records[0].usage, life.system.clock.now().date())
        assert records[0].cost_usd == price

    world.live(story)


def test_a_refused_account_is_asked_by_single_calls_until_it_is_taken_again(tmp_path):
    world = begin(tmp_path, *drafts(10), scenario=Scenario(api_key="another"))

    async def story(life: Life) -> None:
        life.accept()
        report = await life.answer(Tier.HIGH)
        assert report.halted is not None
        [row] = life.system.paces.active()
        assert (row.key, row.of_account) == ("openai", True)
        made = calls(world)
        for _ in range(30):
            await life.pass_time(10)
            await life.answer(Tier.HIGH)
        assert 1 <= calls(world) - made <= 3
        world.provider.scenario = Scenario()
        await answered(life, turns=60)
        assert {life.record(f"t{number}").attempts for number in range(10)} <= {2, 3, 4, 5}
        assert {life.row(f"t{number}").strikes.failures for number in range(10)} == {0}
        assert life.system.paces.active() == []

    world.live(story)


def test_no_batch_is_created_while_the_account_is_refused_and_one_submission_finds_it_good_again(tmp_path):
    world = begin(tmp_path, task("urgent", "email_draft"), task("bulk", "content_generation"))
    world.provider.scenario = Scenario(api_key="another")

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.HIGH)
        before = dict(world.provider.requests)
        await life.assemble()
        await submit_due(life.system)
        assert dict(world.provider.requests) == before
        assert "submission_held" in world.metrics.events()
        world.provider.scenario = Scenario()
        await life.pass_time(61)
        await submit_due(life.system)
        assert world.provider.requests["POST /v1/batches"] == 1
        assert life.system.paces.active() == []
        await life.finish()
        assert life.record("bulk").status is ANSWERED

    world.live(story)


def test_a_submission_that_the_account_is_refused_holds_back_the_calls_as_well(tmp_path):
    world = begin(tmp_path, task("bulk", "content_generation"), scenario=Scenario(api_key="another"))

    async def story(life: Life) -> None:
        life.accept()
        await life.assemble()
        [row] = life.system.paces.active()
        assert row.of_account
        publish_now(life, task("urgent", "email_draft"))
        life.accept()
        report = await life.answer(Tier.HIGH)
        assert len(report.again) == 1
        assert calls(world) == 0

    world.live(story)


def test_an_interrupted_process_s_breaker_is_probed_at_once_by_the_next_one(tmp_path):
    world = begin(tmp_path, *drafts(4), scenario=Scenario(api_key="another"))

    async def refused(life: Life) -> None:
        life.accept()
        await life.answer(Tier.HIGH)

    world.live(refused)
    world.provider.scenario = Scenario()
    later(world.clock, 1)

    async def story(life: Life) -> None:
        await answered(life, turns=20)
        assert {life.record(f"t{number}").status for number in range(4)} == {ANSWERED}

    world.live(story)


class Failing:
    """A port of rows that cannot be written where the first event of a list is of this kind (and of this model's)."""

    def __init__(self, rows: Any, kind: str, key_begins: str = "") -> None:
        self._rows = rows
        self._kind = kind
        self._key_begins = key_begins

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    def apply(self, changes: Any, now: Any) -> Any:
        if type(changes[0].event).__name__ == self._kind and changes[0].key.startswith(self._key_begins):
            raise Contended("the row would not hold still")
        return self._rows.apply(changes, now)


@pytest.mark.parametrize(("port", "kind", "begins"), [("paces", "Take", "openai "), ("tasks", "ClaimCall", "")])
def test_a_probe_that_could_not_be_made_leaves_its_turn_to_the_next_call(tmp_path, port, kind, begins):
    world = begin(tmp_path, *drafts(2), scenario=Scenario(api_key="another"))

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.HIGH)
        world.provider.scenario = Scenario()
        [account] = [row for row in life.engine.paces.scan() if row.of_account]
        await life.pass_time((account.retry_at - life.system.clock.now()).total_seconds() + 1)
        rows = getattr(life.system, port)
        object.__setattr__(life.system, port, Failing(rows, kind, begins))
        before = calls(world)
        with suppress(Contended):
            await life.answer(Tier.HIGH)
        object.__setattr__(life.system, port, rows)
        [account] = [row for row in life.engine.paces.scan() if row.of_account]
        assert calls(world) == before
        assert (account.active, account.probe) == (True, None)

    world.live(story)


def test_answers_are_kept_where_the_pace_row_cannot_be_written(tmp_path):
    world = begin(tmp_path, task("a", "email_draft", "[sim:500-once]"), scenario=slow(1))

    async def story(life: Life) -> None:
        object.__setattr__(life.system, "paces", Failing(life.system.paces, "Tell"))
        await answered(life)
        assert (life.record("a").status, life.record("a").attempts) == (ANSWERED, 2)
        assert "pace_untold" in world.metrics.events()

    world.live(story)


class DownFor:
    """A ports.AnswerApi of a provider one of whose models answers 503."""

    def __init__(self, api: Any, model: str) -> None:
        self._api = api
        self._model = model

    async def answer(self, call: Call) -> Any:
        if call.body["model"] == self._model:
            call = Call(call.endpoint, {**call.body, "messages": _FAILING}, call.lane, call.call_id, call.timeout_s)
        return await self._api.answer(call)

    async def presence(self) -> Any:
        return await self._api.presence()


_FAILING = [{"role": "user", "content": "[sim:503]"}]


def down_for(life: Life, model: str) -> Life:
    object.__setattr__(life.system, "answers", {"openai": DownFor(life.system.answers["openai"], model)})
    return life


@pytest.mark.parametrize("receives", [1, 2])
def test_a_message_that_comes_again_asks_no_moment_for_what_is_done(tmp_path, receives):
    world = begin(tmp_path, {"tasks": [*drafts(3), task("last", "email_draft", "[sim:500-once]")]})

    async def story(life: Life) -> None:
        life.accept()
        for _ in range(receives):
            await life.answer(Tier.HIGH)
            await life.pass_time(10)
        [row] = [row for row in life.engine.paces.scan() if not row.of_account]
        assert calls(world) == 3 + receives
        assert row.answers + row.failures <= 4

    world.live(story)
