"""What lies at the provider under our name and nobody waits for: reported, cancelled, deleted; and nothing else is."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.core.batches import GRACE, BatchState, ProviderStatus
from lowtide.core.errors import ProviderRefused
from lowtide.core.lines import request_line
from lowtide.core.records import Status
from lowtide.core.task import Endpoint
from lowtide.ports import SubmissionKey
from lowtide.steps import sweep as module
from lowtide.steps.submit import submission_key
from lowtide.steps.sweep import LAST_SWEEP, Swept, sweep, sweep_hourly
from lowtide_local.engine.crashes import Crash, CrashPlan, Side, every_crash
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario, Window, WindowKind
from tests.sweep.audit import faults
from tests.sweep.day import begin
from tests.sweep.world import Dies, Life, World, task

GRACE_S = GRACE.total_seconds()
LOST = Mishap(kind=MishapKind.REPLY_LOST, batches=(1,))
NAMES = [f"t{number}" for number in range(10)]


def world_of(directory, *mishaps, windows=(), **weather):
    batch = BatchWeather(**{"min_s": 7_200, "max_s": 7_200, "mishaps": mishaps, **weather})
    world = World(directory, Scenario(batch=batch, windows=windows))
    world.publish({"tasks": [task(name, "bulk_classification") for name in NAMES]})
    return world


def statuses(world):
    return [ProviderStatus(batch["status"]) for batch in world.provider.state()["batches"]]


def filenames(world):
    return [file["filename"] for file in world.provider.state()["files"]]


async def submitted(life):
    """One batch is at the provider, and old enough to be looked at."""
    life.accept()
    await life.assemble()
    await life.pass_time(GRACE_S)


async def overtaken(life):
    """The provider's list lags beyond the grace period, so that a creation whose reply was lost is made again."""
    await submitted(life)
    await life.assemble()


async def put_elsewhere(life, deployment):
    """An input and a running batch under this name."""
    api = life.system.batch_apis["openai"]
    key = SubmissionKey(deployment, "b-1", 1)
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello."}]}
    ref = await api.prepare(key, io.BytesIO(request_line("x", Endpoint.CHAT, body)))
    return await api.create(key, Endpoint.CHAT, ref)


def records(world):
    async def look(life):
        return [life.record(name) for name in NAMES]

    return world.live(look)


# --- orphans ------------------------------------------------------------------------------------------------------


def test_a_batch_that_was_made_again_is_cancelled_once_it_shows_and_the_one_in_the_row_goes_on(tmp_path):
    world = world_of(tmp_path, LOST, list_lag_s=600)

    async def story(life):
        await overtaken(life)
        assert statuses(world) == [ProviderStatus.VALIDATING] * 2
        await life.pass_time(600)
        assert await sweep(life.system) == Swept(batches=1)
        assert statuses(world) == [ProviderStatus.CANCELLED, ProviderStatus.VALIDATING]
        await life.finish(step_s=600)

    world.live(story)
    assert world.metrics.total("orphan_batch") == 1
    assert [line.fields["provider_id"] for line in world.metrics.lines if line.event == "orphan_batch"] == [
        world.provider.state()["batches"][0]["id"]
    ]
    assert {record.status for record in records(world)} == {Status.ANSWERED}
    assert len(world.provider.billed) == len(NAMES)


def test_an_orphan_whose_row_went_on_to_a_new_submission_is_cancelled_too(tmp_path):
    world = world_of(tmp_path, LOST, Mishap(kind=MishapKind.TOKEN_LIMIT, batches=(2,)), list_lag_s=1_500)

    async def story(life):
        await overtaken(life)
        await life.pass_time(800)
        await life.collect()
        assert life.batch().submission == 2
        await life.pass_time(600)
        await life.assemble()
        assert life.batch().state is BatchState.RUNNING
        await life.pass_time(1_500)
        assert await sweep(life.system) == Swept(batches=1)
        found = [ProviderStatus.CANCELLED, ProviderStatus.FAILED, ProviderStatus.IN_PROGRESS]
        assert statuses(world) == found, "and the one that failed is no orphan to report: it ran nothing"
        await life.finish(step_s=600)

    world.live(story)
    assert {record.status for record in records(world)} == {Status.ANSWERED}


def test_what_a_cancelled_orphan_had_written_is_deleted_by_a_later_sweep(tmp_path):
    world = world_of(tmp_path, LOST, list_lag_s=3_600)

    async def story(life):
        await overtaken(life)
        await life.pass_time(3_600)
        assert await sweep(life.system) == Swept(batches=1)
        assert len(filenames(world)) == 3, "the input, and both files of the orphan, too young to touch"
        assert await sweep(life.system) == Swept()
        await life.pass_time(GRACE_S)
        assert await sweep(life.system) == Swept(files=2)
        assert await sweep(life.system) == Swept()
        assert filenames(world) == [f"lowtide-world.{life.batch().batch_id}.1.jsonl"]

    world.live(story)


def test_an_orphan_that_had_ended_before_it_was_seen_is_reported_once_and_its_files_deleted(tmp_path):
    world = world_of(tmp_path, LOST, list_lag_s=600, min_s=500, max_s=500)

    async def story(life):
        await overtaken(life)
        await life.pass_time(700)
        assert await sweep(life.system) == Swept(batches=1, files=1)
        assert await sweep(life.system) == Swept()
        await life.finish()

    world.live(story)
    assert statuses(world) == [ProviderStatus.COMPLETED] * 2
    assert filenames(world) == []


def test_a_second_upload_of_the_same_input_is_deleted_once_a_batch_runs_on_the_other(tmp_path):
    world = world_of(tmp_path)

    async def story(life):
        life.accept()
        await life.assemble()
        key = submission_key(life.system, life.batch())
        twin = await life.system.batch_apis["openai"].prepare(key, io.BytesIO(b"{}\n"))
        assert twin != life.batch().input_ref
        await life.pass_time(GRACE_S)
        assert await sweep(life.system) == Swept(files=1)
        [left] = world.provider.state()["files"]
        assert left["id"] == life.batch().input_ref

    world.live(story)


def test_files_of_a_done_batch_whose_cleaning_did_nothing_are_deleted(tmp_path):
    world = world_of(tmp_path, min_s=60, max_s=60)

    async def story(life):
        api = life.system.batch_apis["openai"]
        deaf = replace(life.system, batch_apis={"openai": _Deaf(api)})
        await Life(world, life.engine, deaf).finish()
        assert len(filenames(world)) == 2
        assert await sweep(life.system) == Swept(), "done a moment ago: what is listed may be on its way out"
        await life.pass_time(GRACE_S)
        assert await sweep(life.system) == Swept(files=2)
        assert filenames(world) == []

    async def accepted(life):
        life.accept()

    world.live(accepted)
    world.live(story)
    assert world.metrics.total("orphan_batch") == 0
    assert world.metrics.total("orphan_file") == 2


class _Deaf:
    """A provider that says yes to a deletion and deletes nothing."""

    def __init__(self, api):
        self._api = api

    def __getattr__(self, name):
        return getattr(self._api, name)

    async def clean(self, refs):
        pass


def test_what_no_row_knows_at_all_is_an_orphan(tmp_path):
    world = world_of(tmp_path)

    async def story(life):
        await put_elsewhere(life, "world")
        await life.pass_time(GRACE_S)
        assert await sweep(life.system) == Swept(batches=1, files=1)
        assert statuses(world) == [ProviderStatus.CANCELLED]

    world.live(story)


# --- what is left alone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deployment", ["other", "world-2", "world.eu", "worl"])
def test_what_carries_another_deployments_name_is_never_touched(tmp_path, deployment):
    world = world_of(tmp_path)

    async def story(life):
        theirs = await put_elsewhere(life, deployment)
        await life.pass_time(7_200 + GRACE_S)
        before = world.provider.state()
        assert await sweep(life.system) == Swept()
        assert world.provider.state()["files"] == before["files"]
        assert len(before["files"]) == 2
        assert theirs.id in [batch["id"] for batch in before["batches"]]

    world.live(story)


def test_what_is_younger_than_the_grace_period_is_not_touched(tmp_path):
    world = world_of(tmp_path)

    async def story(life):
        await put_elsewhere(life, "world")
        await life.pass_time(GRACE_S - 1)
        assert await sweep(life.system) == Swept()
        assert statuses(world) == [ProviderStatus.VALIDATING]
        await life.pass_time(1)
        assert await sweep(life.system) == Swept(batches=1, files=1)

    world.live(story)


def test_a_creation_whose_reply_was_lost_is_still_found_after_a_sweep(tmp_path):
    world = world_of(tmp_path, LOST)

    async def story(life):
        await submitted(life)
        assert life.batch().state is BatchState.SUBMITTING
        assert await sweep(life.system) == Swept()
        await life.assemble()
        assert life.batch().found
        await life.finish(step_s=600)

    world.live(story)
    assert len(statuses(world)) == 1


# --- how often -----------------------------------------------------------------------------------------------------


def test_it_sweeps_once_an_hour_whichever_process_did_it_last(tmp_path):
    world = world_of(tmp_path)

    async def first(life):
        assert await sweep_hourly(life.system) == Swept()
        assert await sweep_hourly(life.system) is None
        await life.pass_time(1_800)

    async def second(life):
        assert await sweep_hourly(life.system) is None
        await life.pass_time(1_800)
        assert await sweep_hourly(life.system) == Swept()

    world.live(first)
    world.live(second)


def test_a_provider_that_cannot_be_asked_is_logged_and_keeps_nobody_waiting(tmp_path):
    outage = Window(kind=WindowKind.OUTAGE, from_s=0, to_s=60)
    world = world_of(tmp_path, windows=(outage,))

    async def story(life):
        assert await sweep_hourly(life.system) == Swept()
        assert life.system.objects.get(LAST_SWEEP)

    world.live(story)
    assert world.metrics.events() == ["sweep_failed"]


def test_an_uneventful_sweep_says_zero(tmp_path):
    world = world_of(tmp_path)
    counted = []

    async def story(life):
        metrics = _Counted(counted)
        await sweep(replace(life.system, metrics=metrics))

    world.live(story)
    assert counted == [("orphan_batch", 0), ("orphan_file", 0)]


class _Counted:
    def __init__(self, counted):
        self._counted = counted

    def count(self, name, value=1, **dimensions):
        assert not dimensions
        self._counted.append((name, value))


# --- at any crash ----------------------------------------------------------------------------------------------------

EVERY_NTH = 53
"""Odd, so that deaths before and after calls are met alike. `make sweep` dies at each call of a day with its sweeps;
these are beside it, over HTTP. Each call that only sweeps make is died at as well."""
SWEEPING = ("batch_apis.openai.owned", "batches.get")


@pytest.fixture
def restless(monkeypatch):
    monkeypatch.setattr(module, "SWEEP_EVERY", timedelta(0))


@pytest.mark.usefixtures("restless")
def test_a_sweep_at_every_turn_touches_nothing_that_a_row_knows_wherever_the_process_dies(tmp_path):
    clean, plan = begin(tmp_path / "clean"), CrashPlan()
    assert clean.work(plan)
    assert faults(clean) == []
    assert plan.calls.count("batch_apis.openai.owned") > 5
    broken = []
    crashes = list(every_crash(len(plan.calls)))
    at_sweeps = {(plan.calls[crash.at - 1], crash.side): crash for crash in crashes}
    for crash in [*crashes[::EVERY_NTH], *(at_sweeps[name, side] for name in SWEEPING for side in Side)]:
        world = begin(tmp_path / f"{crash.at}-{crash.side.name}")
        assert not world.work(crash)
        assert world.work()
        broken += [f"{crash}: {fault}" for fault in faults(world)]
        if world.metrics.total("orphan_batch"):
            broken.append(f"{crash}: a batch was cancelled that a row knew")
    assert broken == []


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("call", ["batch_apis.openai.cancel", "batch_apis.openai.clean"])
def test_a_sweep_that_was_cut_off_is_repeated_without_harm(tmp_path, call, side):
    world = world_of(tmp_path)

    async def cut_off(life):
        await put_elsewhere(life, "world")
        await life.pass_time(GRACE_S)
        await sweep(life.system)

    async def twice(life):
        await sweep(life.system)
        await life.pass_time(GRACE_S)
        await sweep(life.system)

    with pytest.raises(Crash):
        world.live(cut_off, Dies(call, side))
    world.live(twice)
    assert statuses(world) == [ProviderStatus.CANCELLED]
    assert filenames(world) == []


def test_a_batch_that_cannot_be_cancelled_keeps_no_file_from_being_deleted_and_is_counted(tmp_path, monkeypatch):
    world = world_of(tmp_path, Mishap(kind=MishapKind.NEVER_ENDS))
    real = OpenAIBatches.cancel

    async def story(life):
        stuck = await put_elsewhere(life, life.system.deployment)
        api = life.system.batch_apis["openai"]
        for number in (2, 3):
            await api.prepare(SubmissionKey(life.system.deployment, f"b-{number}", 1), io.BytesIO(b"{}\n"))
        await life.pass_time(GRACE_S + 60)

        async def cancel(self, provider_batch_id):
            if provider_batch_id == stuck.id:
                raise ProviderRefused(409, "invalid_request", "a batch that is finalizing cannot be cancelled")
            await real(self, provider_batch_id)

        monkeypatch.setattr(OpenAIBatches, "cancel", cancel)
        return await sweep(life.system)

    swept = world.live(story)
    assert swept.batches == 1
    assert swept.files >= 2
    assert not {name for name in filenames(world) if "b-2" in name or "b-3" in name}
