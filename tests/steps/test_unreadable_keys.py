"""A provider's key that cannot be had: nothing is sent, nothing is counted as sent, and all wait for an operator."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx2
import pytest

from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.core.errors import Busy, ConfigError
from lowtide.core.pace_rows import Breaker, account_key
from lowtide.core.records import Status
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.steps.turns import submit_due
from lowtide_local.simulator.app import build_app
from tests.steps.one_tier import answered, begin
from tests.steps.test_asking import asking as auto
from tests.steps.test_asking import paying
from tests.sweep.world import Life, World, task

WHY = "secret has no key for provider 'openai'"


class Secret:
    """Where the key is kept. Without one it says so."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        if self.key is None:
            await self.without_one()
        return str(self.key)

    async def without_one(self) -> None:
        raise ConfigError(WHY)


class Away(Secret):
    """It says in time that it does not answer."""

    async def without_one(self) -> None:
        await asyncio.sleep(2.5)
        raise Busy("no answer")


class Hanging(Secret):
    """It says nothing."""

    async def without_one(self) -> None:
        await asyncio.Event().wait()


def asking(life: Life, world: World, secret: Secret) -> None:
    """From now on the provider's clients ask ``secret`` for their key."""
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=build_app(world.provider)))
    client = build_client(base_url="http://simulated/v1", api_key=secret, http_client=http)
    life.system = replace(
        life.system,
        answers={"openai": OpenAIAnswers(client)},
        batch_apis={"openai": OpenAIBatches(client, life.system.clock)},
    )


@pytest.mark.parametrize("secret", [Away(), Hanging()], ids=["away", "hanging"])
@pytest.mark.parametrize("tier", [Tier.CRITICAL, Tier.HIGH, Tier.NORMAL])
def test_a_key_store_that_does_not_answer_is_no_try_closes_nothing_and_is_waited_out(tmp_path, tier, secret):
    kind = {Tier.CRITICAL: "live_chat_response", Tier.HIGH: "email_draft", Tier.NORMAL: "meeting_summary"}[tier]
    world = begin(tmp_path, *(task(f"t{number}", kind, deadline_seconds=3_600) for number in range(10)))

    async def story(life: Life) -> None:
        secret.key = None
        asking(life, world, secret)
        life.accept()
        for _ in range(10):
            report = await life.answer(tier)
            assert report.halted is None
            await life.pass_time(10)
        assert (life.letters(), sum(world.provider.requests.values())) == ([], 0)
        rows = list(life.engine.tasks.scan())
        assert {(row.repaid, row.strikes.failures, row.strikes.flex_refusals) for row in rows} == {(0, 0, 0)}
        assert {row.state for row in rows} == {TaskState.QUEUED}, "no claim is kept"
        paces = [pace for pace in life.engine.paces.scan() if pace.state is not Breaker.CLOSED]
        assert paces == [], "calls that have a key go on"
        secret.key = "sk-new"
        await answered(life, tier)
        assert {row.repaid for row in life.engine.tasks.scan()} == {0}

    world.live(story)
    assert len(world.provider.billed) == 10
    assert "key_store_away" in world.metrics.events()
    assert world.metrics.total("account_refused") == 0


def test_a_call_that_waits_for_its_key_delays_no_neighbour_that_has_one(tmp_path):
    world = begin(tmp_path, *(task(f"t{number}", "email_draft") for number in range(4)))

    class First(Hanging):
        async def __call__(self) -> str:
            self.key = None if self.asked == 0 else "sk-new"
            return await super().__call__()

    async def story(life: Life) -> None:
        asking(life, world, First())
        life.accept()
        answering = asyncio.create_task(life.answer(Tier.HIGH))
        await life.pass_time(5)
        assert not answering.done()
        assert len(world.provider.billed) == 3
        await answering
        await life.pass_time(60)
        await answered(life)

    world.live(story)
    assert len(world.provider.billed) == 4


def test_a_question_about_the_model_is_not_asked_without_a_key_and_its_task_waits(tmp_path):
    secret = Away()
    world = begin(tmp_path, paying("a", "email_draft"))
    world.routes = auto()

    async def story(life: Life) -> None:
        asking(life, world, secret)
        life.accept()
        await life.answer(Tier.HIGH)
        assert sum(world.provider.requests.values()) == 0
        secret.key = "sk-new"
        await life.pass_time(60)
        await answered(life)
        [row] = life.engine.tasks.scan()
        assert (row.repaid, row.state) == (0, TaskState.ANSWERED)

    world.live(story)


@pytest.mark.parametrize("state", ["upload", "create"])
def test_a_batch_whose_key_is_away_for_a_moment_is_made_once_and_closes_no_account(tmp_path, state):
    world = begin(tmp_path, task("a", "content_generation"))

    class Fails(Away):
        """At an upload's first request, or after it."""

        async def __call__(self) -> str:
            self.key = None if self.asked == (0 if state == "upload" else 2) else "sk-new"
            return await super().__call__()

    async def story(life: Life) -> None:
        asking(life, world, Fails())
        life.accept()
        await life.finish()
        assert (life.record("a").status, life.record("a").attempts) == (Status.ANSWERED, 1)
        assert [pace for pace in life.system.paces.get([account_key("openai")]) if pace and pace.opens] == []

    world.live(story)
    assert world.metrics.total("account_refused") == 0
    assert world.provider.requests["POST /v1/batches"] == 1


@pytest.mark.parametrize("count", [1, 20])
def test_tasks_wait_for_a_key_without_a_try_or_a_repaid_call_and_are_answered_when_there_is_one(tmp_path, count):
    world = begin(tmp_path, *(task(f"t{number}", "email_draft") for number in range(count)))

    async def story(life: Life) -> None:
        secret = Secret()
        asking(life, world, secret)
        life.accept()
        for _ in range(60):
            await life.answer(Tier.HIGH)
            await life.pass_time(10)
        assert life.letters() == []
        assert sum(world.provider.requests.values()) == 0
        assert {(row.repaid, row.strikes.failures) for row in life.engine.tasks.scan()} == {(0, 0)}
        [account] = life.system.paces.get([account_key("openai")])
        assert account.state is Breaker.OPEN
        secret.key = "sk-new"
        await answered(life)
        for number in range(count):
            assert life.record(f"t{number}").status is Status.ANSWERED
        assert sum(row.repaid for row in life.engine.tasks.scan()) == 0

    world.live(story)
    assert world.metrics.total("account_refused") > 0
    assert len(world.provider.billed) == count


def test_the_log_says_why_there_is_no_key(tmp_path):
    world = begin(tmp_path, task("a", "email_draft"))

    async def story(life: Life) -> None:
        asking(life, world, Secret())
        life.accept()
        report = await life.answer(Tier.HIGH)
        assert report.halted is not None

    world.live(story)
    [told] = [line.fields for line in world.metrics.lines if line.event == "account_refused"]
    assert told["code"] == "key_unreadable"
    assert WHY in str(told["reason"])


def test_a_batch_waits_for_a_key_and_is_submitted_once_when_there_is_one(tmp_path):
    world = begin(tmp_path, task("a", "content_generation"))

    async def story(life: Life) -> None:
        secret = Secret()
        asking(life, world, secret)
        life.accept()
        await life.assemble()
        [account] = life.system.paces.get([account_key("openai")])
        assert account.state is Breaker.OPEN
        assert life.batch().not_before == account.retry_at
        for _ in range(20):
            await life.pass_time(60)
            await submit_due(life.system)
        assert sum(world.provider.requests.values()) == 0
        secret.key = "sk-new"
        await life.finish()
        assert (life.record("a").status, life.record("a").attempts) == (Status.ANSWERED, 1)

    world.live(story)
    assert world.metrics.total("account_refused") > 1
    assert world.provider.requests["POST /v1/batches"] == 1


def test_a_key_that_is_lost_while_a_batch_runs_is_told_and_delays_its_collection_alone(tmp_path):
    world = begin(tmp_path, task("a", "content_generation"))

    async def story(life: Life) -> None:
        secret = Secret()
        secret.key = "sk-new"
        asking(life, world, secret)
        life.accept()
        await life.assemble()
        secret.key = None
        await life.pass_time(3_600)
        await life.collect()
        assert world.metrics.total("account_refused") == 1
        secret.key = "sk-newer"
        await life.finish()
        assert (life.record("a").status, life.record("a").attempts) == (Status.ANSWERED, 1)

    world.live(story)
