"""NORMAL tasks with hours to spare wait for the window in which a call costs less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from lowtide.core.admission import Level
from lowtide.core.lanes import Lane
from lowtide.core.later import MOST_WAITING, SPREAD_S
from lowtide.core.offpeak import OffPeak
from lowtide.core.records import Status
from lowtide.core.routes import Routes
from lowtide.core.tasks import Cancel, TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Change, Depth
from tests.steps.one_tier import answered, begin, slow
from tests.sweep.world import START, Life, form, routes, task, validating

PLAIN = "gpt-4o-mini"
"""A model without flex."""
OPENS = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
"""Two hours after the world begins."""
HOUR_S = 3_600


def cheaper(discount: str = "0.6", *lanes: str, opens: datetime = OPENS, hours: int = 4) -> Routes:
    closes = opens + timedelta(hours=hours)
    window = {"from": "2026-03-01", "opens": opens.time(), "closes": closes.time(), "discount": discount}
    off_peak = (OffPeak.model_validate({**window, "lanes": lanes or ("default",)}),)
    openai = routes().providers["openai"].model_copy(update={"off_peak": off_peak})
    return routes().model_copy(update={"providers": {"openai": openai}})


def summary(name: str, deadline_s: int | None = 6 * HOUR_S, text: str = "Hello.") -> dict[str, object]:
    return task(name, "meeting_summary", text, model=PLAIN, deadline_seconds=deadline_s)


def test_a_task_with_hours_is_called_in_the_window_at_its_price_after_one_look(tmp_path):
    world = begin(tmp_path, summary("a"), routes=cheaper())
    assert world.work()

    async def look(life: Life) -> None:
        record = life.record("a")
        assert (record.status, record.lane, record.deadline_met) == (Status.ANSWERED, Lane.DEFAULT, True)
        assert record.attempts == 1
        assert timedelta(0) < record.finished_at - OPENS < timedelta(seconds=SPREAD_S + 60)
        assert record.route.endswith("off-peak from 10:00 UTC: 60% less")
        assert record.cost_usd == record.list_cost_usd * Decimal("0.4")

    world.live(look)


def test_while_it_waits_it_is_hidden_unclaimed_and_costs_no_call(tmp_path):
    world = begin(tmp_path, summary("a"), routes=cheaper())

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.NORMAL)
        assert life.engine.tasks.counts() == {}
        await life.pass_time(1.9 * HOUR_S)
        await life.answer(Tier.NORMAL)
        visible = life.engine.queue(Tier.NORMAL.value).next_visible_at()
        assert timedelta(0) < visible - OPENS < timedelta(seconds=SPREAD_S + 2)
        await life.pass_time((visible - life.system.clock.now()).total_seconds())
        [message] = life.system.tiers[Tier.NORMAL].receive(10, visibility_s=60)
        assert message.receives == 2

    world.live(story)
    assert not world.provider.billed
    assert world.metrics.total("tasks_waiting_off_peak") == 1


def test_a_window_beyond_what_sqs_hides_a_message_is_reached_in_two_looks(tmp_path):
    far = cheaper(opens=START + timedelta(hours=20))
    world = begin(tmp_path, summary("a", 30 * HOUR_S), routes=far)
    assert world.work()

    async def look(life: Life) -> None:
        assert "off-peak from 04:00 UTC" in life.record("a").route

    world.live(look)
    assert world.metrics.total("tasks_waiting_off_peak") == 2


@pytest.mark.parametrize("deadline_s", [None, 2 * HOUR_S])
def test_a_deadline_that_the_window_would_endanger_is_met_at_list_price_now(tmp_path, deadline_s):
    world = begin(tmp_path, summary("a", deadline_s), routes=cheaper())

    async def story(life: Life) -> None:
        await answered(life, Tier.NORMAL)
        record = life.record("a")
        assert record.cost_usd == record.list_cost_usd
        assert record.finished_at < START + timedelta(minutes=5)

    world.live(story)


def test_what_was_accepted_together_with_a_waiting_task_does_not_wait_with_it(tmp_path):
    tasks = [summary("patient"), summary("hurried", None)]
    world = begin(tmp_path, {"tasks": tasks}, routes=cheaper())

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.NORMAL)
        assert life.record("hurried").deadline_met
        assert life.engine.tasks.counts() == {"answered": 1}
        await life.pass_time(2.5 * HOUR_S)
        await life.answer(Tier.NORMAL)
        assert life.record("patient").cost_usd == life.record("patient").list_cost_usd * Decimal("0.4")

    world.live(story)
    assert len(world.provider.billed) == 2


def test_a_task_in_a_pack_that_is_tried_again_waits_on_all_the_same(tmp_path):
    tasks = [summary("patient"), summary("unlucky", None, "[sim:500-once]")]
    world = begin(tmp_path, {"tasks": tasks}, routes=cheaper())
    assert world.work()

    async def look(life: Life) -> None:
        assert life.record("unlucky").finished_at < OPENS < life.record("patient").finished_at
        assert life.record("unlucky").attempts == 2

    world.live(look)


def test_a_price_is_that_of_the_hour_in_which_the_call_began(tmp_path):
    """A second before the end of the window, and an answer after it."""
    closes = START + timedelta(hours=1)
    window = cheaper(opens=closes - timedelta(hours=4))
    world = begin(tmp_path, summary("a", 2 * HOUR_S), scenario=slow(20), routes=window)
    world.clock.moment = closes - timedelta(seconds=1)

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.NORMAL)
        record = life.record("a")
        assert record.finished_at > closes
        assert record.cost_usd == record.list_cost_usd * Decimal("0.4")

    world.live(story)


def test_an_answer_that_does_not_count_is_charged_at_the_price_of_its_hour(tmp_path):
    held = validating("meeting_summary").model_copy(update={"providers": cheaper("0.6", opens=START).providers})
    world = begin(tmp_path, form("a", "meeting_summary", "[sim:misfit-once]", model=PLAIN), routes=held)

    async def story(life: Life) -> None:
        await answered(life, Tier.NORMAL)
        record = life.record("a")
        assert record.attempts == 2
        assert record.cost_usd < record.list_cost_usd * 2 * Decimal("0.5")

    world.live(story)


def test_a_waiting_task_that_is_cancelled_is_never_called(tmp_path):
    world = begin(tmp_path, summary("a"), routes=cheaper())

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.NORMAL)
        now = life.system.clock.now()
        life.system.tasks.apply([Change("a default", Cancel("default", "a"), None)], now)

    world.live(story)
    assert world.work()

    async def look(life: Life) -> None:
        assert life.row("a").state is TaskState.CANCELLED

    world.live(look)
    assert not world.provider.billed


class Crowded:
    """A queue on which as many messages wait as SQS would hardly hand out any more."""

    def __init__(self, queue: object) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> object:
        return getattr(self._queue, name)

    def depth(self) -> Depth:
        return Depth(visible=0, in_flight=MOST_WAITING + 1, delayed=0)


def test_where_too_many_wait_already_a_task_is_called_now(tmp_path):
    world = begin(tmp_path, summary("a"), routes=cheaper())

    async def story(life: Life) -> None:
        life.accept()
        life.system.tiers[Tier.NORMAL] = Crowded(life.system.tiers[Tier.NORMAL])
        await life.answer(Tier.NORMAL)
        assert life.record("a").cost_usd == life.record("a").list_cost_usd

    world.live(story)


class Marks:
    """A ports.Levels that keeps what it was told."""

    def __init__(self) -> None:
        self.oldest_s: list[float] = []

    def look(self, tiers: Sequence[Tier]) -> dict[Tier, Level]:
        return dict.fromkeys(tiers, Level())

    def mark(self, tier: Tier, oldest_s: float) -> None:
        self.oldest_s.append(oldest_s)


def test_the_hours_that_a_message_waited_on_purpose_are_no_age_that_fills_its_tier(tmp_path):
    world = begin(tmp_path, summary("a"), routes=cheaper())

    async def story(life: Life) -> None:
        life.accept()
        marks = Marks()
        life.system = replace(life.system, levels=marks)
        await life.answer(Tier.NORMAL)
        await life.pass_time(2.5 * HOUR_S)
        await life.answer(Tier.NORMAL)
        assert life.record("a").status is Status.ANSWERED
        assert len(marks.oldest_s) == 2
        assert max(marks.oldest_s) < 60

    world.live(story)


def test_a_queue_that_cannot_be_looked_at_keeps_nobody_waiting_and_stops_no_call(tmp_path):
    world = begin(tmp_path, summary("a"), routes=cheaper())

    class Blind(Crowded):
        def depth(self) -> Depth:
            raise RuntimeError("throttled")

    async def story(life: Life) -> None:
        life.accept()
        life.system.tiers[Tier.NORMAL] = Blind(life.system.tiers[Tier.NORMAL])
        await life.answer(Tier.NORMAL)
        assert life.record("a").cost_usd == life.record("a").list_cost_usd

    world.live(story)
    assert world.metrics.total("message_errors") == 0
    assert "depth_unseen" in world.metrics.events()


def test_packs_for_a_model_with_a_low_rate_do_not_wait_for_a_window_that_is_too_late_for_them_all(tmp_path):
    slow_routes = cheaper()
    spec = slow_routes.model(PLAIN).model_copy(update={"requests_per_minute": 6})
    slow_routes = slow_routes.model_copy(update={"models": {**slow_routes.models, PLAIN: spec}})
    packs = [{"tasks": [summary(f"t{n}", 3 * HOUR_S) for n in range(at, at + 10)]} for at in range(0, 400, 10)]
    world = begin(tmp_path, *packs, routes=slow_routes)

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.NORMAL, stop_at=life.system.clock.now() + timedelta(seconds=5))

    world.live(story)
    assert world.metrics.total("tasks_waiting_off_peak") == 0
