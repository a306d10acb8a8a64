"""A task that nobody calls beside: three 500s in a row open no breaker, so its tries must not fall into one moment."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lowtide.core.records import Status
from lowtide.core.tiers import Tier
from lowtide_local.simulator.scenario import CallFaults, Scenario
from tests.steps.one_tier import answered, begin
from tests.sweep.world import Life, form, task, validating

FAILING = Scenario(calls=CallFaults(server_error=1.0, tries=99))


async def tried(life: Life, tier: Tier, seconds: float) -> None:
    for _ in range(round(seconds)):
        await life.answer(tier)
        await life.pass_time(1)


def test_the_last_try_of_a_task_with_an_hour_comes_minutes_after_the_others(tmp_path):
    world = begin(tmp_path, task("a", "lead_scoring", "[sim:500-twice]"))

    async def story(life: Life) -> None:
        life.accept()
        await tried(life, Tier.NORMAL, 20)
        assert (life.row("a").attempt, life.row("a").strikes.failures) == (2, 2)
        await answered(life, Tier.NORMAL)
        record = life.record("a")
        assert (record.status, record.attempts, record.deadline_met) == (Status.ANSWERED, 3, True)
        assert record.finished_at - record.accepted_at > timedelta(minutes=2)

    world.live(story)


def test_what_always_fails_is_dead_after_three_tries_and_minutes(tmp_path):
    world = begin(tmp_path, task("a", "lead_scoring"), scenario=FAILING)

    async def story(life: Life) -> None:
        await answered(life, Tier.NORMAL)
        record = life.record("a")
        assert (record.status, record.attempts) == (Status.DEAD, 3)
        assert timedelta(minutes=2) < record.finished_at - record.accepted_at < timedelta(minutes=6)

    world.live(story)


@pytest.mark.parametrize(("kind", "tier"), [("live_chat_response", Tier.CRITICAL), ("email_draft", Tier.HIGH)])
def test_a_task_with_no_time_to_spare_has_its_tries_well_before_its_deadline(tmp_path, kind, tier):
    world = begin(tmp_path, task("a", kind), scenario=FAILING)

    async def story(life: Life) -> None:
        life.accept()
        await tried(life, tier, 20)
        record = life.record("a")
        assert (record.status, record.attempts) == (Status.DEAD, 3)
        assert record.finished_at - record.accepted_at < timedelta(seconds=20)

    world.live(story)


def test_an_answer_of_the_wrong_form_is_no_outage_and_waits_for_none(tmp_path):
    world = begin(tmp_path, form("a", "lead_scoring", "[sim:misfit]"), routes=validating("lead_scoring"))

    async def story(life: Life) -> None:
        life.accept()
        await tried(life, Tier.NORMAL, 20)
        assert life.record("a").attempts == 3

    world.live(story)
