"""A template's fixed text comes first, so that a provider caches it, and the receipt has the cached price."""

from __future__ import annotations

from decimal import Decimal

import pytest

from lowtide.core.lanes import Lane
from lowtide.core.tiers import Tier
from lowtide_local.simulator.scenario import Scenario
from tests.sweep.world import Life, World, prices, routes

RULES = "Judge it by these rules, one after the other. " * 100
"""1,150 tokens: more than the shortest beginning that is cached."""


@pytest.mark.parametrize(
    ("kind", "lane"), [("ticket_classification", Lane.DEFAULT), ("bulk_classification", Lane.BATCH)]
)
def test_the_second_task_of_a_type_pays_the_cached_price_for_the_text_they_share(tmp_path, kind, lane):
    rate = prices().models[routes().profiles["simple"]][-1].lanes[lane]
    judging = routes().model_copy(update={"templates": routes().templates | {"judgement": RULES}})
    world = World(tmp_path, Scenario(prompt_cache=True), routes=judging)
    world.publish(*({"task_id": name, "type": kind, "payload": {"text": f"Case {name}."}} for name in ("a", "b")))

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.HIGH)
        await life.finish()
        records = [life.record("a"), life.record("b")]
        assert sorted(record.usage.cached_input_tokens for record in records) == [0, 1_024]
        for record in records:
            used = record.usage
            assert record.lane is lane
            assert rate.cached_input < rate.input
            assert record.cost_usd == Decimal("0.000001") * (
                (used.input_tokens - used.cached_input_tokens) * rate.input
                + used.cached_input_tokens * rate.cached_input
                + used.output_tokens * rate.output
            )

    world.live(story)
