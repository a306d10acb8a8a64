"""Every call that brought no answer counts as failed, on every tier, and for any reason."""

from __future__ import annotations

import pytest

from lowtide.core.acceptance import accept
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import Response, judge
from lowtide.core.task import Endpoint
from lowtide.core.tiers import Tier
from lowtide.steps.conclude import Conclusions
from lowtide_local.simulator.scenario import Scenario, Window, WindowKind
from tests.steps.one_tier import begin
from tests.sweep.world import START, Life, World, form, task, validating

KINDS = {
    Tier.CRITICAL: "live_chat_response",
    Tier.HIGH: "email_draft",
    Tier.NORMAL: "meeting_summary",
    Tier.LOW: "content_generation",
}


def counts(world: World, tier: Tier) -> tuple[float, float]:
    return world.metrics.total("calls", tier=tier.value), world.metrics.total("call_errors", tier=tier.value)


async def once(life: Life, tier: Tier) -> None:
    life.accept()
    await life.answer(tier)


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("Hello.", 0),
        ("[sim:400]", 1),
        ("[sim:404]", 1),
        ("[sim:422]", 1),
        ("[sim:refuse]", 1),
        ("[sim:429]", 1),
        ("[sim:500]", 1),
        ("[sim:503]", 1),
        ("[sim:timeout]", 1),
    ],
)
def test_a_call_that_brings_no_answer_is_an_error_however_it_fails(tmp_path, text, errors):
    world = begin(tmp_path, task("a", "email_draft", text))
    world.live(lambda life: once(life, Tier.HIGH))
    assert counts(world, Tier.HIGH) == (1, errors)


@pytest.mark.parametrize("tier", list(Tier))
def test_a_call_counts_for_the_tier_of_its_task(tmp_path, tier):
    # A LOW task that is due too soon for a batch is called with NORMAL.
    fields = {"deadline_seconds": 900} if tier is Tier.LOW else {}
    world = begin(tmp_path, task("a", KINDS[tier], "[sim:404]", **fields))
    world.live(lambda life: once(life, Tier.NORMAL if tier is Tier.LOW else tier))
    assert counts(world, tier) == (1, 1)
    assert sum(counts(world, each)[0] for each in Tier) == 1


def test_an_answer_that_is_not_what_was_asked_for_is_an_error_too(tmp_path):
    world = begin(
        tmp_path, form("a", "ticket_classification", "[sim:misfit]"), routes=validating("ticket_classification")
    )
    world.live(lambda life: once(life, Tier.HIGH))
    assert counts(world, Tier.HIGH) == (1, 1)


@pytest.mark.parametrize(("kind", "calls"), [(WindowKind.QUOTA, 1), (WindowKind.RATE_LIMIT, 1), (WindowKind.OUTAGE, 1)])
def test_what_the_account_or_the_provider_is_at_fault_for_counts(tmp_path, kind, calls):
    world = begin(
        tmp_path, task("a", "email_draft"), scenario=Scenario(windows=(Window(kind=kind, from_s=0, to_s=60),))
    )
    world.live(lambda life: once(life, Tier.HIGH))
    assert counts(world, Tier.HIGH) == (calls, 1)


def test_flex_without_capacity_is_a_call_and_no_error(tmp_path):
    no_flex = Scenario(windows=(Window(kind=WindowKind.NO_FLEX, from_s=0, to_s=60),))
    world = begin(tmp_path, task("a", "meeting_summary"), scenario=no_flex)
    world.live(lambda life: once(life, Tier.NORMAL))
    assert counts(world, Tier.NORMAL) == (1, 0)
    assert world.metrics.total("flex_refused") == 1


def test_flex_that_stalls_is_an_error_because_it_took_its_time_and_may_be_billed(tmp_path):
    world = begin(tmp_path, task("a", "meeting_summary", "[sim:timeout]"))
    world.live(lambda life: once(life, Tier.NORMAL))
    assert counts(world, Tier.NORMAL) == (1, 1)
    assert world.metrics.total("flex_refused") == 0


def test_a_lane_that_the_server_does_not_know_is_an_error(tmp_path):
    """A release that buys a lane which the provider has taken away fails on every call."""
    error = {"message": "Unknown parameter service_tier", "code": "unknown_parameter", "param": "service_tier"}
    response = Response(400, body={"error": error})
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        conclusions = Conclusions(life.system, life.system.tasks.apply)
        asked = accept(task("a", "live_chat_response"), origin="m/0", sent_at=START, routes=life.system.routes)
        conclusions._count(asked, response, judge(response, Lane.PRIORITY, Endpoint.CHAT))

    world.live(story)
    assert counts(world, Tier.CRITICAL) == (1, 1)


@pytest.mark.parametrize("tier", [Tier.CRITICAL, Tier.HIGH, Tier.NORMAL])
def test_a_task_that_comes_again_is_measured_from_its_acceptance_each_time(tmp_path, tier):
    world = begin(tmp_path, task("a", KINDS[tier], "[sim:429-twice]"))

    async def story(life: Life) -> None:
        life.accept()
        for _ in range(6):
            await life.pass_time(100)
            await life.answer(tier)

    world.live(story)
    waits = world.metrics.values("wait_s", tier=tier.value)
    assert waits == sorted(waits)
    assert waits[0] >= 100
    assert max(waits) >= 200
