"""An ended batch's files into settled tasks: whatever they hold, twice, half or not at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide.core.batches import BatchState
from lowtide.core.errors import Unreachable
from lowtide.core.lanes import Lane
from lowtide.core.prices import PriceTable
from lowtide.core.receipts import Receipt
from lowtide.core.records import Status
from lowtide.core.task import custom_id
from lowtide.core.tiers import Tier
from lowtide_local.engine.crashes import Crash, Side
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario, Window, WindowKind
from tests.steps.one_lot import all_of_it, batched, begin, ends, running
from tests.sweep.world import START, Dies, Life, later

ANSWERED, DEAD = Status.ANSWERED, Status.DEAD


def mishap(kind: MishapKind, **more) -> Scenario:
    return Scenario(batch=BatchWeather(mishaps=(Mishap(kind=kind, **more),)))


def test_an_answered_line_is_recorded_at_half_price_and_nothing_is_left_at_the_provider(tmp_path):
    world = begin(tmp_path, a="Hello.")

    async def story(life: Life) -> None:
        await all_of_it(life)
        record = life.record("a")
        assert (record.status, record.lane, record.attempts) == (ANSWERED, Lane.BATCH, 1)
        assert record.batch_id == world.provider.state()["batches"][0]["id"]
        assert record.cost_usd is not None
        assert record.cost_usd * 2 == record.list_cost_usd
        assert life.engine.ledger.total() == Receipt.of(record)

    world.live(story)
    assert world.provider.state()["files"] == []


def test_the_provider_never_sees_the_id_of_a_task(tmp_path):
    world = begin(tmp_path, a="Hello.")
    world.live(all_of_it)
    assert batched(world) == [custom_id("default", "a", 1)]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("[sim:500-once]", (ANSWERED, 2)),
        ("[sim:429-once]", (ANSWERED, 2)),
        ("[sim:500-twice]", (ANSWERED, 3)),
        ("[sim:500]", (DEAD, 3)),
        ("[sim:missing-once]", (ANSWERED, 2)),
        ("[sim:missing]", (DEAD, 3)),
        ("[sim:timeout-once]", (ANSWERED, 2)),
        ("[sim:expire-once]", (ANSWERED, 2)),
        ("[sim:refuse]", (DEAD, 1)),
        ("[sim:422]", (DEAD, 1)),
        ("[sim:string-body]", (ANSWERED, 1)),
        ("[sim:twice]", (ANSWERED, 1)),
        ("[sim:bad-line]", (DEAD, 1)),
    ],
)
def test_each_line_has_its_own_end_and_leaves_its_neighbour_alone(tmp_path, text, end):
    world = begin(tmp_path, neighbour="Hello.", odd=text)

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life)["odd"] == end
        assert life.record("neighbour").status is ANSWERED
        assert life.row("neighbour").strikes.failures == 0
        assert len(life.letters()) == (end[0] is DEAD)

    world.live(story)
    assert sorted(batched(world)).count(custom_id("default", "neighbour", 1)) == (text != "[sim:bad-line]")
    assert len(batched(world)) == len(set(batched(world)))
    assert world.provider.state()["files"] == []


def test_a_line_that_failed_three_times_is_dead_with_its_reason_and_its_three_attempts(tmp_path):
    world = begin(tmp_path, a="[sim:500]")

    async def story(life: Life) -> None:
        await all_of_it(life)
        [letter] = life.letters()
        error = letter["error"]
        assert (error["code"], error["provider_status"], error["attempts"]) == ("server_error", 500, 3)
        assert error["first_failed_at"] < error["last_failed_at"]
        assert letter["task"]["task_id"] == "a"
        assert life.row("a").strikes.failures == 2, "the row keeps what was known when its last attempt began"

    world.live(story)
    assert len(world.provider.state()["batches"]) == 3


def test_an_expired_batch_resubmits_only_the_unanswered_items(tmp_path):
    names = {f"t{number}": "Hello." for number in range(10)}
    world = begin(tmp_path, mishap(MishapKind.EXPIRES, batches=(1,), fraction=0.6), **names)

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert sorted(attempts for _, attempts in ends(life).values()) == [1] * 6 + [2] * 4
        tallies = [(row.requests, row.tally.answered, row.tally.retried) for row in life.engine.batches.scan()]
        assert tallies == [(10, 6, 4), (4, 4, 0)]

    world.live(story)
    assert len(batched(world)) == 10


@pytest.mark.parametrize(
    ("kind", "attempts"),
    [
        (MishapKind.SHUFFLED, 1),
        (MishapKind.DUPLICATE_LINE, 1),
        (MishapKind.BLANK_ERROR_FILE_ID, 1),
        (MishapKind.NO_OUTPUT_FILE, 2),
    ],
)
def test_files_that_are_shuffled_doubled_blank_or_absent_lose_nothing_and_settle_nothing_twice(
    tmp_path, kind, attempts
):
    world = begin(tmp_path, mishap(kind, batches=(1,)), a="1", b="2", c="3")

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life) == dict.fromkeys("abc", (ANSWERED, attempts))
        assert life.engine.ledger.total().tasks == 3

    world.live(story)
    assert len(batched(world)) == 3


@pytest.mark.parametrize("downloads", [1, 2, 7])
def test_a_download_that_breaks_begins_again_and_no_line_is_lost_or_bought_again(tmp_path, downloads):
    world = begin(tmp_path, mishap(MishapKind.DOWNLOAD_RESET, downloads=downloads), a="1", b="2")

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life) == dict.fromkeys("ab", (ANSWERED, 1))

    world.live(story)
    assert len(batched(world)) == 2


def test_the_lines_that_a_failed_validation_named_are_dead_and_the_others_go_again_uncounted(tmp_path):
    world = begin(tmp_path, a="[sim:bad-line]", b="Hello.", c="[sim:bad-line]", d="Hello.")

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life) == {"a": (DEAD, 1), "c": (DEAD, 1), "b": (ANSWERED, 2), "d": (ANSWERED, 2)}
        assert [life.row(name).strikes.failures for name in "bd"] == [0, 0]
        assert {letter["error"]["code"] for letter in life.letters()} == {"invalid_request"}

    world.live(story)
    assert len(batched(world)) == 2


def test_a_failed_validation_that_names_no_line_ends_at_the_culprit_alone(tmp_path):
    scenario = mishap(MishapKind.FAILS_VALIDATION, contains="the culprit")
    names = {f"t{number}": "Hello." for number in range(7)}
    world = begin(tmp_path, scenario, **names, odd="I am the culprit.")

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert {name: status for name, (status, _) in ends(life).items() if status is DEAD} == {"odd": DEAD}
        assert len(ends(life)) == 8

    world.live(story)
    assert len(batched(world)) == 7


def test_a_batch_that_the_provider_no_longer_knows_is_waited_for_and_then_asked_again(tmp_path):
    world = begin(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60)), a="Hello.")

    async def story(life: Life) -> None:
        await running(life)
        [forgotten] = world.provider._batches
        del world.provider._batches[forgotten], world.provider._running[forgotten]
        await life.pass_time(3_000)
        await life.collect()
        assert life.batch().state is BatchState.RUNNING
        await life.finish()
        # After two days its deadline is past: no second batch.
        await life.answer(Tier.NORMAL)
        assert ends(life) == {"a": (ANSWERED, 2)}
        assert life.row("a").repaid == 1

    world.live(story)


def test_a_running_batch_is_looked_at_more_and_more_seldom(tmp_path):
    world = begin(tmp_path, Scenario(batch=BatchWeather(min_s=7_200, max_s=7_200)), a="Hello.")

    async def story(life: Life) -> None:
        await running(life)
        waits = []
        for _ in range(12):
            await life.collect()
            waits.append((life.batch().next_poll_at - life.system.clock.now()).total_seconds())
            await life.pass_time(waits[-1])
        assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]

    world.live(story)


@pytest.mark.parametrize("call", ["batch_apis.openai.get", "batch_apis.openai.results", "batch_apis.openai.clean"])
def test_an_outage_in_the_middle_of_collecting_only_takes_time(tmp_path, call):
    scenario = Scenario(windows=(Window(kind=WindowKind.OUTAGE, from_s=1_000, to_s=3_000),))
    world = begin(tmp_path, scenario, a="1", b="2")
    world.live(running)
    with pytest.raises(Crash):
        world.live(Life.finish, Dies(call, Side.BEFORE))
    later(world.clock, 1_000)

    async def story(life: Life) -> None:
        await life.finish()
        assert ends(life) == dict.fromkeys("ab", (ANSWERED, 1))

    world.live(story)
    assert world.provider.state()["files"] == []
    assert len(batched(world)) == 2


# --- a provider that fails while its files are read -----------------------------------------------------------------


@pytest.mark.parametrize(("call", "state"), [("results", BatchState.COLLECTING), ("clean", BatchState.CLEANING)])
def test_a_collection_that_the_provider_fails_is_left_alone_for_longer_each_time(tmp_path, call, state):
    world = begin(tmp_path, a="Hello.")
    waits = []

    async def story(life: Life) -> None:
        await running(life)
        api = Failing(life.system.batch_apis["openai"], call)
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        await life.collect()
        for number in range(12):
            assert (life.batch().state, api.asked) == (state, number + 1)
            waits.append((life.batch().not_before - life.system.clock.now()).total_seconds())
            await life.pass_time(waits[-1] - 0.001)
            await life.collect()
            assert api.asked == number + 1, "it is not due"
            await life.pass_time(0.001)
            await life.collect()
        api.fails = False
        await life.pass_time(300)
        await life.collect()
        assert ends(life) == {"a": (ANSWERED, 1)}

    world.live(story)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert world.provider.state()["files"] == []


class Failing:
    """A provider that cannot be reached for one of its calls."""

    def __init__(self, api, call: str) -> None:
        self._api, self._call = api, call
        self.fails, self.asked = True, 0

    def __getattr__(self, name):
        return getattr(self._api, name)

    async def results(self, batch):
        self._fail("results")
        async for line in self._api.results(batch):
            yield line

    async def clean(self, refs) -> None:
        self._fail("clean")
        await self._api.clean(refs)

    def _fail(self, call: str) -> None:
        if call == self._call and self.fails:
            self.asked += 1
            raise Unreachable("nobody is there")


def test_a_batch_costs_what_it_cost_on_the_day_it_was_ordered(tmp_path):
    day = timedelta(days=1)
    world = begin(tmp_path, Scenario(batch=BatchWeather(min_s=20 * 3_600, max_s=20 * 3_600)), a="Hello.")
    ordered = START.date()

    def dearer(prices: PriceTable) -> PriceTable:
        """From the day after the order, all of it ten times."""
        last = prices.models["gpt-5-mini"][-1]
        tenfold = {
            lane: rate.model_copy(update={"input": rate.input * 10, "output": rate.output * 10})
            for lane, rate in last.lanes.items()
        }
        then = last.model_copy(update={"starts": ordered + day, "lanes": tenfold})
        return prices.model_copy(update={"models": prices.models | {"gpt-5-mini": (last, then)}})

    async def story(life: Life) -> None:
        life = replace(life, system=replace(life.system, prices=dearer(life.system.prices)))
        await all_of_it(life)
        record = life.record("a")
        assert record.finished_at.date() == ordered + day
        prices = life.system.prices
        assert record.cost_usd == prices.cost("gpt-5-mini", Lane.BATCH, record.usage, ordered)
        assert record.list_cost_usd == prices.cost("gpt-5-mini", Lane.DEFAULT, record.usage, ordered)
        assert record.cost_usd != prices.cost("gpt-5-mini", Lane.BATCH, record.usage, ordered + day)

    world.live(story)
