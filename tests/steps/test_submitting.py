"""A sealed batch to the provider, at most once: intent first, a look before every second creation, a grace period."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide.core.batches import GRACE, BatchState, Intend, Upload
from lowtide.core.errors import ProviderRefused
from lowtide.core.records import Status
from lowtide.core.tiers import Tier
from lowtide.steps.lease import leased
from lowtide.steps.submit import submit
from lowtide.steps.turns import submit_due
from lowtide_local.engine.crashes import Crash, Side
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario, Window, WindowKind
from tests.sweep.world import Dies, Life, World, later, task

CREATE = "batch_apis.openai.create"
POST = "POST /v1/batches"


def mishaps(*each: Mishap, **weather) -> Scenario:
    return Scenario(batch=BatchWeather(mishaps=each, **weather))


def begin(tmp_path, scenario: Scenario | None = None, *, names: tuple[str, ...] = ("a", "b"), **options) -> World:
    world = World(tmp_path, scenario or Scenario(), **options)
    world.publish(*(task(name, "content_generation") for name in names))
    return world


async def assembled(life: Life) -> None:
    life.accept()
    await life.assemble()


def created(world: World) -> int:
    return world.provider.requests[POST]


def test_a_lost_reply_to_creation_is_looked_up_and_never_created_again(tmp_path):
    world = begin(tmp_path, mishaps(Mishap(kind=MishapKind.REPLY_LOST), min_s=30, max_s=30, list_lag_s=60))

    async def story(life: Life) -> None:
        await assembled(life)
        assert life.batch().state is BatchState.SUBMITTING
        await life.assemble()
        assert life.batch().state is BatchState.SUBMITTING, "the list does not show it yet, and may lag"
        await life.pass_time(61)
        await life.assemble()
        assert life.batch().state is BatchState.RUNNING
        await life.finish()
        assert [life.record(name).attempts for name in ("a", "b")] == [1, 1]

    world.live(story)
    assert created(world) == 1
    assert len(world.provider.billed) == 2


def test_a_batch_found_at_the_provider_is_not_created_again_however_long_nobody_looked(tmp_path):
    world = begin(tmp_path)
    with pytest.raises(Crash):
        world.live(assembled, Dies(CREATE, Side.AFTER))
    later(world.clock, 5 * 3600)
    world.live(Life.finish)
    assert created(world) == 1


def test_an_intent_without_a_batch_is_waited_out_and_then_stamped_anew(tmp_path):
    world = begin(tmp_path)
    with pytest.raises(Crash):
        world.live(assembled, Dies(CREATE, Side.BEFORE))

    async def after(life: Life) -> None:
        first = life.batch().intent_at
        assert first is not None
        await life.pass_time(GRACE.total_seconds() - 1)
        await life.assemble()
        assert (life.batch().state, created(world)) == (BatchState.SUBMITTING, 0)
        assert life.batch().intent_at == first
        await life.pass_time(1)
        await life.assemble()
        assert (life.batch().state, created(world)) == (BatchState.RUNNING, 1)
        assert life.batch().intent_at == first + GRACE

    world.live(after)


def test_a_second_creation_that_dies_has_a_grace_period_of_its_own(tmp_path):
    world = begin(tmp_path, mishaps(list_lag_s=60))
    with pytest.raises(Crash):
        world.live(assembled, Dies(CREATE, Side.BEFORE))
    later(world.clock, GRACE.total_seconds())
    with pytest.raises(Crash):
        world.live(lambda life: submit_due(life.system), Dies(CREATE, Side.AFTER))
    world.live(Life.finish)
    assert created(world) == 1


def test_an_input_that_was_handed_over_is_used_and_not_left_behind_a_second_one(tmp_path):
    world = begin(tmp_path)
    with pytest.raises(Crash):
        world.live(assembled, Dies("batch_apis.openai.prepare", Side.AFTER))
    world.live(Life.finish)
    assert world.provider.requests["POST /v1/files"] == 1
    assert world.provider.state()["files"] == []


def test_who_finds_a_batch_leased_goes_home(tmp_path):
    world = begin(tmp_path)
    with pytest.raises(Crash):
        world.live(assembled, Dies("batch_apis.openai.prepare", Side.BEFORE))

    async def after(life: Life) -> None:
        with leased(life.system, life.batch()) as mine:
            assert mine is not None
            row = life.batch()
            assert await submit(life.system, row) == row
        assert world.provider.requests["POST /v1/files"] == 0
        await life.finish()

    world.live(after)
    assert created(world) == 1


def test_a_lease_that_ran_out_fences_nothing_but_every_write_it_guarded_is_refused(tmp_path):
    world = begin(tmp_path)
    with pytest.raises(Crash):
        world.live(assembled, Dies("batch_apis.openai.prepare", Side.BEFORE))

    async def after(life: Life) -> None:
        with leased(life.system, life.batch()) as slow:
            assert slow is not None
            await life.pass_time(life.system.routes.batching.lease_s)
            with leased(life.system, life.batch()) as quick:
                assert quick is not None
                assert not slow.apply(Upload(slow.owner))
                assert quick.apply(Upload(quick.owner))
                assert not slow.apply(Intend(slow.owner, "file-slow"))
        assert life.batch().input_ref is None

    world.live(after)


# --- over the limit of enqueued tokens -----------------------------------------------------------------------------


def test_a_batch_over_the_token_limit_goes_again_whole_under_a_new_number_and_no_attempt_is_counted(tmp_path):
    world = begin(tmp_path, mishaps(Mishap(kind=MishapKind.TOKEN_LIMIT, batches=(1,))))

    async def story(life: Life) -> None:
        await assembled(life)
        await life.collect()
        returned = life.batch()
        assert (returned.state, returned.submission, returned.provider_batch) == (BatchState.SEALED, 2, None)
        assert returned.not_before == life.system.clock.now() + timedelta(minutes=5)
        assert world.provider.state()["files"] == [], "the input of the first submission is of no more use"
        await life.pass_time(299)
        await life.assemble()
        assert created(world) == 1
        await life.pass_time(1)
        await life.assemble()
        assert created(world) == 2
        await life.finish()
        assert [life.record(name).attempts for name in ("a", "b")] == [1, 1]
        assert [life.row(name).strikes.failures for name in ("a", "b")] == [0, 0]

    world.live(story)
    first, second = [batch["metadata"]["lowtide_key"] for batch in world.provider.state()["batches"]]
    assert first.rpartition(".")[0] == second.rpartition(".")[0]
    assert (first.rpartition(".")[2], second.rpartition(".")[2]) == ("1", "2")


def test_the_look_up_after_a_token_limit_does_not_find_the_submission_that_failed(tmp_path):
    world = begin(tmp_path, mishaps(Mishap(kind=MishapKind.TOKEN_LIMIT, batches=(1,))))

    async def over_the_limit(life: Life) -> None:
        await assembled(life)
        await life.collect()

    world.live(over_the_limit)
    later(world.clock, 300)
    with pytest.raises(Crash):
        world.live(lambda life: submit_due(life.system), Dies(CREATE, Side.BEFORE))

    async def after(life: Life) -> None:
        await life.assemble()
        assert life.batch().state is BatchState.SUBMITTING
        await life.finish()
        assert life.record("a").status is Status.ANSWERED

    world.live(after)
    assert created(world) == 2


def test_a_token_limit_that_stays_is_waited_for_longer_and_longer(tmp_path):
    one = mishaps(Mishap(kind=MishapKind.TOKEN_LIMIT, batches=(1, 2, 3, 4, 5, 6)))
    world = begin(tmp_path, one, names=("a",))

    async def story(life: Life) -> None:
        await assembled(life)
        waits = []
        for _ in range(6):
            await life.collect()
            waits.append((life.batch().not_before - life.system.clock.now()).total_seconds() / 60)
            await life.pass_time(waits[-1] * 60)
            await submit_due(life.system)
        assert waits == [5, 10, 20, 40, 80, 80]
        await life.finish()
        assert life.record("a").attempts == 1

    world.live(story)


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in WindowKind if kind is not WindowKind.NO_FLEX])
def test_a_provider_that_will_take_nothing_for_a_while_costs_time_and_nothing_else(tmp_path, kind):
    scenario = Scenario(windows=(Window(kind=kind, from_s=0, to_s=1_800),))
    world = begin(tmp_path, scenario)

    async def story(life: Life) -> None:
        await assembled(life)
        assert life.batch().state in (BatchState.UPLOADING, BatchState.SUBMITTING)
        await life.finish(step_s=30)
        for name in ("a", "b"):
            assert (life.record(name).status, life.record(name).attempts) == (Status.ANSWERED, 1)

    world.live(story)
    assert len(world.provider.billed) == 2
    assert len(world.provider.state()["batches"]) == 1
    assert world.provider.state()["files"] == []


class Refusing:
    """A provider that refuses the first creations so many times."""

    def __init__(self, api, refusal: ProviderRefused, times: int) -> None:
        self._api, self._refusal, self._times = api, refusal, times

    def __getattr__(self, name):
        return getattr(self._api, name)

    async def create(self, key, endpoint, input_ref):
        if self._times:
            self._times -= 1
            raise self._refusal
        return await self._api.create(key, endpoint, input_ref)


class Blind(Refusing):
    """A provider that refuses the first looks at its list."""

    async def create(self, key, endpoint, input_ref):
        return await self._api.create(key, endpoint, input_ref)

    async def find(self, key, input_ref):
        if self._times:
            self._times -= 1
            raise self._refusal
        return await self._api.find(key, input_ref)


@pytest.mark.parametrize("status", [400, 403, 404, 429])
def test_a_look_that_is_refused_says_nothing_of_the_creation_before_it(tmp_path, status):
    world = begin(tmp_path, mishaps(Mishap(kind=MishapKind.REPLY_LOST), min_s=30, max_s=30, list_lag_s=60))

    async def story(life: Life) -> None:
        await assembled(life)
        api = Blind(life.system.batch_apis["openai"], ProviderRefused(status, "no_list", "Not now."), 1)
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        await life.finish(step_s=1)
        assert [life.record(name).attempts for name in ("a", "b")] == [1, 1]

    world.live(story)
    assert created(world) == 1


def refusing(life: Life, status: int, code: str, *, times: int) -> Life:
    api = Refusing(life.system.batch_apis["openai"], ProviderRefused(status, code, "It says why."), times)
    return replace(life, system=replace(life.system, batch_apis={"openai": api}))


def test_a_batch_that_the_provider_will_never_take_is_answered_by_calls_before_its_deadline(tmp_path):
    world = begin(tmp_path, names=("a",))

    async def story(life: Life) -> None:
        life = refusing(life, 400, "invalid_request", times=1_000)
        await assembled(life)
        await life.finish()
        await life.answer(Tier.NORMAL)
        assert (life.record("a").status, life.record("a").deadline_met) == (Status.ANSWERED, True)
        assert life.letters() == []

    world.live(story)
    assert created(world) == 0
    assert world.provider.state()["files"] == []


@pytest.mark.parametrize(("status", "waited"), [(429, 0), (403, 0), (503, GRACE.total_seconds())])
def test_only_a_refusal_that_may_hide_a_batch_is_waited_out(tmp_path, status, waited):
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        life = refusing(life, status, "insufficient_quota" if status == 403 else "busy", times=1)
        await assembled(life)
        batch = life.batch()
        assert batch.state is BatchState.SUBMITTING
        assert batch.not_before is not None
        put_off = (batch.not_before - life.system.clock.now()).total_seconds()
        until = max(waited, put_off)
        await life.pass_time(until - 1)
        await submit_due(life.system)
        assert created(world) == 0
        await life.pass_time(1)
        await submit_due(life.system)
        assert created(world) == 1

    world.live(story)


def test_a_batch_that_the_provider_refuses_once_is_taken_the_next_time(tmp_path):
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        life = refusing(life, 400, "invalid_request", times=1)
        await assembled(life)
        await life.finish()
        assert {life.record(name).status for name in ("a", "b")} == {Status.ANSWERED}

    world.live(story)
    assert len(world.provider.billed) == 2


class SlowIntents:
    """Rows whose first intent takes this long to be written: its stamp is of before."""

    def __init__(self, batches, sleep):
        self._batches, self._sleep = batches, sleep
        self.get, self.active = batches.get, batches.active

    def apply(self, changes, now):
        if self._sleep is not None and any(isinstance(change.event, Intend) for change in changes):
            sleep, self._sleep = self._sleep, None
            sleep()
        return self._batches.apply(changes, now)


def test_an_intent_that_took_long_to_write_is_stamped_again_before_the_creation(tmp_path):
    """Or whoever comes next thinks that the grace period is over, and creates while the list still lags."""
    lost = mishaps(Mishap(kind=MishapKind.REPLY_LOST, batches=(1,)), min_s=300, max_s=300, list_lag_s=30)
    world = begin(tmp_path, lost)

    async def slow(life: Life) -> None:
        life.accept()

        async def a_while(other: Life) -> None:
            await other.pass_time(200)

        batches = SlowIntents(life.system.batches, lambda: world.meanwhile(life, a_while))
        await replace(life, system=replace(life.system, batches=batches)).assemble()
        assert life.batch().state is BatchState.SUBMITTING
        await life.assemble()
        await life.finish()

    world.live(slow)
    assert created(world) == 1
