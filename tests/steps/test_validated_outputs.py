"""Answers that do not hold to their schema: tried again, and every try paid for and in the books."""

from __future__ import annotations

from decimal import Decimal

import pytest

from lowtide.core.records import ResultRecord, Status
from lowtide.core.tiers import Tier
from lowtide_local.run.reconcile import BilledLine, checks
from tests.steps.one_tier import answered
from tests.sweep.world import FORM, Life, World, form, validating

KINDS = ("email_draft", "content_generation")


def begin(tmp_path, *messages: object) -> World:
    world = World(tmp_path, routes=validating(*KINDS))
    world.publish(*messages)
    return world


def billed_usd(life: Life) -> Decimal:
    """The provider's lines at our prices."""
    lines = [BilledLine.of(line) for line in life.world.provider.billing()["data"]]
    costs = [life.system.prices.cost(line.model, line.lane, line.usage, line.at.date()) for line in lines]
    return sum((cost for cost in costs if cost is not None), Decimal(0))


def checked(world: World) -> ResultRecord:
    """The one record, once the books have been found to agree."""

    async def look(life: Life) -> ResultRecord:
        lines = [BilledLine.of(line) for line in world.provider.billing()["data"]]
        made = checks(life.system, life.engine, life.engine.ledger.total(), lines)
        broken = [check for check in made if not check.held]
        assert broken == []
        record = life.record("a")
        assert record.cost_usd == billed_usd(life)
        return record

    return world.live(look)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_does_not_hold_is_asked_for_again_and_both_are_paid_for(tmp_path, kind):
    world = begin(tmp_path, form("a", kind, "[sim:misfit-once]"))
    assert world.work()
    record = checked(world)
    assert (record.status, record.attempts) == (Status.ANSWERED, 2)
    assert len(world.provider.billed) == 2
    assert record.cost_usd is not None
    assert record.list_cost_usd is not None
    assert record.usage.output_tokens < sum(line.output_tokens for line in world.provider.billed)


@pytest.mark.parametrize("kind", KINDS)
def test_three_such_answers_and_the_task_is_dead_with_what_all_of_them_cost(tmp_path, kind):
    world = begin(tmp_path, form("a", kind, "[sim:misfit]"))
    assert world.work()
    record = checked(world)
    assert (record.status, record.attempts, len(world.provider.billed)) == (Status.DEAD, 3, 3)
    assert record.error is not None
    assert record.error.code == "invalid_output"
    assert record.response is not None
    assert "misfit" in record.response.body["choices"][0]["message"]["content"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_refuses_is_not_asked_twice_and_its_refusal_is_paid_for(tmp_path, kind):
    world = begin(tmp_path, form("a", kind, "[sim:decline]"))
    assert world.work()
    record = checked(world)
    assert record.error is not None
    assert (record.error.code, record.attempts, len(world.provider.billed)) == ("model_refusal", 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_responses_request_is_held_to_its_own_way_of_asking(tmp_path, kind):
    form_ = {"type": "json_schema", "name": "form", "strict": True, "schema": FORM}
    body = {"model": "gpt-5-mini", "input": "[sim:misfit-once]", "text": {"format": form_}}
    world = begin(tmp_path, {"task_id": "a", "type": kind, "request": {"url": "/v1/responses", "body": body}})
    assert world.work()
    record = checked(world)
    assert (record.status, record.attempts) == (Status.ANSWERED, 2)


def test_where_a_model_has_no_price_what_failed_tries_cost_is_not_known_either(tmp_path):
    world = begin(tmp_path, form("a", "email_draft", "[sim:misfit]", model="our-own"))

    async def story(life: Life) -> None:
        await answered(life, Tier.HIGH)
        assert life.record("a").cost_usd is None
        assert life.engine.ledger.total().unpriced == 1

    world.live(story)
