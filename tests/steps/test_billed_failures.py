"""A response that failed at work and says what it used: charged as a failed attempt, and not counted as repaid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from lowtide.core.outcomes import Response
from lowtide.core.records import ResultRecord, Status
from lowtide.core.tiers import Tier
from lowtide.ports import Call
from lowtide_local.run.reconcile import BilledLine, checks
from tests.steps.one_tier import answered
from tests.sweep.world import Life, World

RESPONSES = "/v1/responses"


def failed(body: dict[str, Any], code: str, *, told: bool) -> dict[str, Any]:
    """What an answer would have been, had the model failed at work."""
    error = {"code": code, "message": "The model failed."}
    return body | {"status": "failed", "error": error, "output": [], "usage": body["usage"] if told else None}


class FailsAtWork:
    """A provider's calls and batches, whose first ``times`` answers failed at work. All of them were billed."""

    def __init__(self, api: Any, times: int, code: str, *, told: bool = True) -> None:
        self._api, self.left, self._code, self._told = api, times, code, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def answer(self, call: Call) -> Response:
        response = await self._api.answer(call)
        return replace(response, body=self._maybe(response.body))

    async def results(self, *args: Any, **options: Any) -> AsyncIterator[bytes]:
        async for raw in self._api.results(*args, **options):
            line = orjson.loads(raw)
            line["response"]["body"] = self._maybe(line["response"]["body"])
            yield orjson.dumps(line)

    def _maybe(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self.left:
            return body
        self.left -= 1
        return failed(body, self._code, told=self._told)


def failing(life: Life, times: int, code: str, **options: bool) -> Life:
    answers = {"openai": FailsAtWork(life.system.answers["openai"], times, code, **options)}
    batches = {"openai": FailsAtWork(life.system.batch_apis["openai"], times, code, **options)}
    return replace(life, system=replace(life.system, answers=answers, batch_apis=batches))


def begin(tmp_path, kind: str) -> World:
    world = World(tmp_path)
    body = {"model": "gpt-6-luna", "input": "Hello. " * 50}
    world.publish({"task_id": "a", "type": kind, "request": {"url": RESPONSES, "body": body}})
    return world


def balanced(life: Life) -> ResultRecord:
    """The record, where the provider's bill is the sum of the receipts."""
    lines = [BilledLine.of(line) for line in life.world.provider.billing()["data"]]
    made = checks(life.system, life.engine, life.engine.ledger.total(), lines)
    assert [f"{check.name}: {check.detail}" for check in made if not check.held] == []
    return life.record("a")


async def worked(life: Life, kind: str) -> None:
    if kind == "email_draft":
        await answered(life, Tier.HIGH)
    else:
        life.accept()
        await life.finish()


@pytest.mark.parametrize("kind", ["email_draft", "content_generation"])
def test_a_try_that_failed_at_work_is_in_the_receipt_of_the_answer_that_came_after_it(tmp_path, kind):
    world = begin(tmp_path, kind)

    async def story(life: Life) -> None:
        await worked(failing(life, 1, "server_error"), kind)
        record = balanced(life)
        assert (record.status, record.attempts) == (Status.ANSWERED, 2)
        assert (life.row("a").repaid, life.row("a").strikes.billed) == (0, (1,))
        assert record.cost_usd > life.row("a").strikes.spent_usd > 0

    world.live(story)
    assert len(world.provider.billed) == 2


@pytest.mark.parametrize("kind", ["email_draft", "content_generation"])
@pytest.mark.parametrize(("code", "tries"), [("server_error", 3), ("invalid_prompt", 1)])
def test_a_task_that_dies_of_it_shows_what_its_tries_cost(tmp_path, kind, code, tries):
    world = begin(tmp_path, kind)

    async def story(life: Life) -> None:
        await worked(failing(life, 9, code), kind)
        record = balanced(life)
        assert (record.status, record.attempts, life.row("a").repaid) == (Status.DEAD, tries, 0)
        assert record.cost_usd == life.row("a").strikes.spent_usd > 0

    world.live(story)
    assert len(world.provider.billed) == tries


@pytest.mark.parametrize("kind", ["email_draft", "content_generation"])
def test_one_that_does_not_say_what_it_used_is_perhaps_billed(tmp_path, kind):
    world = begin(tmp_path, kind)

    async def story(life: Life) -> None:
        await worked(failing(life, 1, "server_error", told=False), kind)
        assert (life.row("a").repaid, life.row("a").strikes.billed) == (1, ())

    world.live(story)
