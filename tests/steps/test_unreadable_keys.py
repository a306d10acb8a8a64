"""A provider's key that cannot be had: nothing is sent, nothing is counted as sent, and all wait for an operator."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest

from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.core.errors import ConfigError
from lowtide.core.pace_rows import Breaker, account_key
from lowtide.core.records import Status
from lowtide.core.tiers import Tier
from lowtide.steps.turns import submit_due
from lowtide_local.simulator.app import build_app
from tests.steps.one_tier import answered, begin
from tests.sweep.world import Life, World, task

WHY = "secret has no key for provider 'openai'"


class Secret:
    """Where the key is kept. Without one it says so."""

    def __init__(self) -> None:
        self.key: str | None = None

    async def __call__(self) -> str:
        if self.key is None:
            raise ConfigError(WHY)
        return self.key


def asking(life: Life, world: World, secret: Secret) -> None:
    """From now on the provider's clients ask ``secret`` for their key."""
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=build_app(world.provider)))
    client = build_client(base_url="http://simulated/v1", api_key=secret, http_client=http)
    life.system = replace(
        life.system,
        answers={"openai": OpenAIAnswers(client)},
        batch_apis={"openai": OpenAIBatches(client, life.system.clock)},
    )


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
