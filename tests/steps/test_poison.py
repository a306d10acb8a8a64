"""What always fails ends, an outage ends nothing: others' answers tell them apart, or a question that buys nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from lowtide.core.outcomes import Response
from lowtide.core.tasks import TaskRow, TaskState
from lowtide.ports import AnswerApi, Call, Presence
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario
from tests.sweep.world import Life, World, outgoing, task

MOST_BOUGHT = 5
"""The attempts of the shipped routes, and two."""
QUICK = Scenario(latency=Latencies(default=Latency(min_s=0.5, max_s=2.0)), hang_s=120)


class Ill:
    """A ports.AnswerApi whose every call fails with ``status`` until a moment; ``there``: it still lists its models."""

    def __init__(
        self, api: AnswerApi, now: Callable[[], datetime], status: int | None, until: datetime, *, there: bool
    ):
        self._api, self._now, self._status, self._until, self._there = api, now, status, until, there
        self.calls = 0

    async def answer(self, call: Call) -> Response:
        if self._now() >= self._until:
            return await self._api.answer(call)
        self.calls += 1
        if self._status is None:
            return Response(None, fault="timeout")
        return Response(self._status, {"error": {"message": "Oops.", "code": None}})

    async def presence(self) -> Presence:
        return Presence.THERE if self._there or self._now() >= self._until else Presence.ABSENT


def feed(life: Life, **texts: str) -> None:
    life.system.intake.send([outgoing(task(name, "email_draft", text)) for name, text in texts.items()])


async def worked(life: Life, seconds: float = 6 * 3600) -> float:
    """Until all has ended, which has to be within so many seconds; how many it took."""
    began = life.system.clock.now()
    async with asyncio.timeout(seconds):
        await life.work()
    return (life.system.clock.now() - began).total_seconds()


def rows(life: Life) -> dict[str, TaskRow]:
    return {row.task_id: row for row in life.engine.tasks.scan()}


@pytest.mark.parametrize("mark", ["500", "502", "503", "504", "529", "408", "garbage", "drop", "timeout"])
@pytest.mark.parametrize("many", [1, 2, 3, 4])
def test_a_few_tasks_that_always_fail_alone_on_a_quiet_model_end(tmp_path, mark, many):
    world = World(tmp_path, QUICK)

    async def story(life: Life) -> None:
        feed(life, **{f"bad-{number}": f"[sim:{mark}]" for number in range(many)})
        await worked(life, 3 * 3600)
        assert {row.state for row in rows(life).values()} == {TaskState.DEAD}
        assert max(row.attempt for row in rows(life).values()) <= MOST_BOUGHT

    world.live(story)
    assert len(world.provider.billed) <= MOST_BOUGHT * many


@pytest.mark.parametrize("many", [8, 30])
def test_many_that_always_fail_look_like_an_outage_and_end_all_the_same(tmp_path, many):
    world = World(tmp_path, QUICK)

    async def story(life: Life) -> None:
        feed(life, **{f"bad-{number}": "[sim:garbage]" for number in range(many)})
        await worked(life, 6 * 3600)
        assert {row.state for row in rows(life).values()} == {TaskState.DEAD}
        assert max(row.attempt for row in rows(life).values()) <= MOST_BOUGHT

    world.live(story)
    assert len(world.provider.billed) <= MOST_BOUGHT * many


@pytest.mark.parametrize("status", [503, 500, None])
@pytest.mark.parametrize("hours", [1 / 6, 5])
@pytest.mark.parametrize("many", [1, 3, 40])
def test_an_outage_kills_nobody_and_buys_nobody_again_and_again(tmp_path, status, hours, many):
    world = World(tmp_path, QUICK)

    async def story(life: Life) -> None:
        until = life.system.clock.now() + timedelta(hours=hours)
        ill = Ill(life.system.answers["openai"], life.system.clock.now, status, until, there=False)
        life = replace(life, system=replace(life.system, answers={"openai": ill}))
        feed(life, **{f"t{number}": "Hello." for number in range(many)})
        took_s = await worked(life, hours * 3600 + 1800)
        assert {row.state for row in rows(life).values()} == {TaskState.ANSWERED}
        assert max(row.attempt for row in rows(life).values()) <= MOST_BOUGHT
        assert took_s < hours * 3600 + 900

    world.live(story)


@pytest.mark.parametrize("status", [503, 500, None])
def test_an_outage_of_all_calls_alone_kills_nobody_as_long_as_many_tasks_meet_it(tmp_path, status):
    world = World(tmp_path, QUICK)

    async def story(life: Life) -> None:
        until = life.system.clock.now() + timedelta(hours=2)
        ill = Ill(life.system.answers["openai"], life.system.clock.now, status, until, there=True)
        life = replace(life, system=replace(life.system, answers={"openai": ill}))
        feed(life, **{f"t{number}": "Hello." for number in range(40)})
        await worked(life, 5 * 3600)
        assert {row.state for row in rows(life).values()} == {TaskState.ANSWERED}
        assert max(row.attempt for row in rows(life).values()) <= MOST_BOUGHT

    world.live(story)


@pytest.mark.parametrize("status", [502, 503, 504, 529])
@pytest.mark.parametrize(("many", "due_s"), [(1, 3_600), (2, 90_000), (4, 3_600), (4, 30_000), (6, 90_000)])
def test_a_provider_that_says_that_it_is_down_buries_no_task_before_its_deadline_though_it_lists_models(
    tmp_path, status, many, due_s
):
    """Gateways go on listing models while what is behind them is down. None of these calls is billed."""
    world = World(tmp_path, QUICK)

    async def story(life: Life) -> None:
        until = life.system.clock.now() + timedelta(days=30)
        ill = Ill(life.system.answers["openai"], life.system.clock.now, status, until, there=True)
        life = replace(life, system=replace(life.system, answers={"openai": ill}))
        sent = [{**task(f"t{number}", "meeting_summary"), "deadline_seconds": due_s} for number in range(many)]
        life.system.intake.send([outgoing(each) for each in sent])
        await worked(life, due_s + 5 * 3600)
        for row in rows(life).values():
            assert row.state is TaskState.DEAD
            assert row.settled_at >= row.deadline_at
            assert row.attempt <= MOST_BOUGHT

    world.live(story)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
@pytest.mark.parametrize("many", [1, 3])
def test_a_few_tasks_outlive_an_outage_that_ends_before_their_deadline(tmp_path, share, many):
    world = World(tmp_path, QUICK)

    async def story(life: Life) -> None:
        until = life.system.clock.now() + timedelta(hours=share)
        ill = Ill(life.system.answers["openai"], life.system.clock.now, 503, until, there=True)
        life = replace(life, system=replace(life.system, answers={"openai": ill}))
        life.system.intake.send([outgoing(task(f"t{number}", "meeting_summary")) for number in range(many)])
        assert await worked(life) < 3_900
        assert {row.state for row in rows(life).values()} == {TaskState.ANSWERED}

    world.live(story)


class Silent(Ill):
    """It never says that it is there."""

    async def presence(self) -> Presence:
        return Presence.ABSENT


@pytest.mark.parametrize("many", [1, 10])
def test_a_server_that_never_says_that_it_is_there_is_found_out_by_a_call(tmp_path, many):
    world = World(tmp_path, QUICK)

    async def story(life: Life) -> None:
        until = life.system.clock.now() + timedelta(seconds=20)
        silent = Silent(life.system.answers["openai"], life.system.clock.now, 503, until, there=False)
        life = replace(life, system=replace(life.system, answers={"openai": silent}))
        feed(life, **{f"t{number}": "Hello." for number in range(many)})
        assert await worked(life) < 10 * 60
        assert {row.state for row in rows(life).values()} == {TaskState.ANSWERED}
        [model] = [row for row in life.engine.paces.scan() if not row.of_account]
        assert model.mute
        feed(life, bad="[sim:502]")
        await worked(life)
        assert rows(life)["bad"].state is TaskState.DEAD, "what it does not say is no sign of an outage any more"

    world.live(story)


@pytest.mark.parametrize("mark", ["502", "garbage"])
def test_poison_holds_back_no_neighbour(tmp_path, mark):
    world = World(tmp_path, QUICK)

    async def story(life: Life) -> None:
        feed(life, a=f"[sim:{mark}]", b=f"[sim:{mark}]", c=f"[sim:{mark}]")
        good = [outgoing(task(f"good-{number}", "email_draft")) for number in range(20)]
        life.system.intake.send([replace(message, delay_s=4 + 7 * number) for number, message in enumerate(good)])
        await worked(life)
        waits = [(r.settled_at - r.accepted_at).total_seconds() for n, r in rows(life).items() if n.startswith("good")]
        sent = [4 + 7 * number for number in range(20)]
        late = [wait - delay for wait, delay in zip(sorted(waits), sent, strict=True)]
        assert max(late) < 10, late

    world.live(story)
