"""Result files that come late, stay away, break off or are no result files: settled as far as they can be read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from lowtide.core.batches import Away, BatchState
from lowtide.core.errors import ProviderRefused
from lowtide.core.records import Status
from lowtide.steps.unread import unread_key
from lowtide_local.engine.crashes import Crash, Side
from lowtide_local.simulator.dialects import Dialect
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario
from tests.steps.one_lot import all_of_it, batched, begin, ends, running
from tests.sweep.world import START, Dies, Life, later

ANSWERED, DEAD = Status.ANSWERED, Status.DEAD
MINUTE, HOUR, DAY = 60, 3_600, 86_400


def befallen(*mishaps: Mishap, **weather) -> Scenario:
    return Scenario(batch=BatchWeather(mishaps=mishaps, **weather))


def late(seconds=None, **more) -> Mishap:
    return Mishap(kind=MishapKind.LATE_FILE_IDS, seconds=seconds, batches=(1,), **more)


def gone(status=404, seconds=None, **more) -> Mishap:
    return Mishap(kind=MishapKind.FILE_GONE, status=status, seconds=seconds, batches=(1,), **more)


def waited_s(life: Life) -> float:
    return (life.system.clock.now() - START).total_seconds()


def created(world) -> int:
    return len(world.provider.state()["batches"])


# --- named late -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [("output",), ("output", "error")])
@pytest.mark.parametrize("text", ["Hello.", "[sim:500-once]"])
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("seconds", [1, 300, 599])
def test_a_batch_that_names_its_files_late_is_waited_for_and_nothing_is_bought_twice(
    tmp_path, files, text, counted, seconds
):
    silent = () if counted else (Mishap(kind=MishapKind.NO_COUNTS),)
    world = begin(tmp_path, befallen(late(seconds, files=files), *silent), a="Hello.", b=text)

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life) == {"a": (ANSWERED, 1), "b": (ANSWERED, 1 if text == "Hello." else 2)}
        assert [life.row(name).repaid for name in "ab"] == [0, 0]

    world.live(story)
    assert len(batched(world)) == 2


def test_names_that_come_within_a_second_cost_a_second(tmp_path):
    world = begin(tmp_path, befallen(late(0.5)), a="Hello.")

    async def story(life: Life) -> None:
        await running(life)
        await life.collect()
        assert life.batch().unnamed_since == START
        await life.pass_time(1)
        await life.collect()
        assert ends(life) == {"a": (ANSWERED, 1)}

    world.live(story)


def test_after_ten_minutes_the_lines_go_again_counted_as_perhaps_billed(tmp_path):
    world = begin(tmp_path, befallen(late()), a="Hello.", b="Hello too.")

    async def story(life: Life) -> None:
        await running(life)
        looks = []
        while created(world) == 1:
            await life.collect()
            await life.assemble()
            looks.append(waited_s(life))
            [row, *_] = life.system.batches.active() or [None]
            if row is not None and row.next_poll_at is not None:
                await life.pass_time(max(1, (row.next_poll_at - life.system.clock.now()).total_seconds()))
            else:
                await life.pass_time(1)
        assert looks[:6] == [0, 1, 3, 7, 15, 31], "soon at first"
        assert 600 in looks, "once more at the end"
        await life.finish()
        assert ends(life) == dict.fromkeys("ab", (ANSWERED, 2))
        assert [life.row(name).repaid for name in "ab"] == [1, 1]
        assert world.metrics.total("batches_without_files") == 1
        assert world.metrics.events().count("files_not_named") == 1

    world.live(story)
    assert len(batched(world)) == 4


def test_ten_minutes_are_counted_over_the_death_of_the_process(tmp_path):
    world = begin(tmp_path, befallen(late()), a="Hello.")

    async def first(life: Life) -> None:
        await running(life)
        await life.collect()

    async def again(life: Life) -> None:
        await life.collect()

    async def last(life: Life) -> None:
        assert life.batch().unnamed_since == START
        await life.finish(step_s=1)
        assert ends(life) == {"a": (ANSWERED, 2)}
        assert 600 <= waited_s(life) < 700

    world.live(first)
    for _ in range(2):
        later(world.clock, 250)
        world.live(again)
    world.live(last)


@pytest.mark.parametrize("kind", [MishapKind.EXPIRES, MishapKind.NO_OUTPUT_FILE])
def test_however_it_ended_what_may_have_been_answered_is_waited_for(tmp_path, kind):
    names = {f"t{number}": "Hello." for number in range(4)}
    mishaps = (Mishap(kind=kind, batches=(1,), fraction=0.5), late())
    world = begin(tmp_path, befallen(*mishaps), **names)

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert waited_s(life) >= 600
        assert {status for status, _ in ends(life).values()} == {ANSWERED}
        assert {life.row(name).repaid for name in names} == {1}

    world.live(story)


def test_a_batch_that_is_cancelled_for_a_deadline_is_waited_for_too(tmp_path):
    """Money first: the answers that it has are paid for, whatever becomes of the deadline."""
    slow = Mishap(kind=MishapKind.SLOW, factor=1_000, batches=(1,))
    scenario = befallen(slow, late(300), min_s=100, max_s=100)
    world = begin(tmp_path, scenario, **{f"t{number}": "Hello." for number in range(20)})

    async def story(life: Life) -> None:
        await life.work()
        assert {status for status, _ in ends(life).values()} == {ANSWERED}
        assert sum(row.repaid for row in life.engine.tasks.scan()) == 0

    world.live(story)
    lines = [line.id for line in world.provider.billed]
    assert len(lines) == len(set(lines)) == 20


@pytest.mark.parametrize(
    "mishaps",
    [
        (Mishap(kind=MishapKind.FAILS_VALIDATION, batches=(1,)), Mishap(kind=MishapKind.NO_COUNTS)),
        (Mishap(kind=MishapKind.EXPIRES, batches=(1,), fraction=0.0),),
    ],
)
def test_a_batch_that_surely_answered_nothing_goes_again_at_once(tmp_path, mishaps):
    world = begin(tmp_path, befallen(*mishaps), a="Hello.", b="Hello too.")

    async def story(life: Life) -> None:
        await running(life)
        await life.collect()
        assert [row.state for row in life.engine.batches.scan()] == [BatchState.DONE]

    world.live(story)


# --- named and away -------------------------------------------------------------------------------------------------

BOTH = {"a": "Hello.", "bad": "[sim:refuse]", "c": "[sim:500-once]"}
"""``a`` is in the output file, the others in the error file."""


@pytest.mark.parametrize("status", [404, 410])
def test_an_error_file_that_stays_away_is_given_up_after_five_minutes_and_the_other_is_settled(tmp_path, status):
    world = begin(tmp_path, befallen(gone(status, files=("error",))), **BOTH)

    async def story(life: Life) -> None:
        await running(life)
        await life.collect()
        assert life.batch().state is BatchState.COLLECTING
        await life.finish(step_s=1)
        done = min(row.done_at for row in life.engine.batches.scan())
        assert timedelta(minutes=5) <= done - START < timedelta(minutes=5, seconds=5)
        assert ends(life) == {"a": (ANSWERED, 1), "bad": (DEAD, 2), "c": (ANSWERED, 2)}
        assert [life.row(name).repaid for name in BOTH] == [0, 1, 1]
        assert world.metrics.total("result_files_given_up") == 1

    world.live(story)
    assert len(batched(world)) == 2
    assert world.provider.state()["files"] == []


def test_an_output_file_that_stays_away_is_bought_again_and_what_failed_is_not(tmp_path):
    world = begin(tmp_path, befallen(gone(files=("output",))), **BOTH)

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life) == {"a": (ANSWERED, 2), "bad": (DEAD, 1), "c": (ANSWERED, 2)}
        assert [life.row(name).repaid for name in BOTH] == [1, 0, 0]

    world.live(story)


def test_both_files_away_take_five_minutes_together(tmp_path):
    world = begin(tmp_path, befallen(gone()), **BOTH)

    async def story(life: Life) -> None:
        await running(life)
        await life.finish(step_s=1)
        done = min(row.done_at for row in life.engine.batches.scan())
        assert timedelta(minutes=5) <= done - START < timedelta(minutes=5, seconds=5)
        assert ends(life) == {"a": (ANSWERED, 2), "bad": (DEAD, 2), "c": (ANSWERED, 2)}

    world.live(story)


@pytest.mark.parametrize("files", [("output",), ("error",), ("output", "error")])
@pytest.mark.parametrize("seconds", [1, 200, 299])
def test_a_file_that_is_back_in_time_is_read_and_nothing_is_bought_again(tmp_path, files, seconds):
    world = begin(tmp_path, befallen(gone(files=files, seconds=seconds)), **BOTH)

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life) == {"a": (ANSWERED, 1), "bad": (DEAD, 1), "c": (ANSWERED, 2)}
        assert [life.row(name).repaid for name in BOTH] == [0, 0, 0]

    world.live(story)
    assert len(batched(world)) == 2


def test_a_file_that_never_comes_is_no_task_without_end(tmp_path):
    forever = Mishap(kind=MishapKind.FILE_GONE)
    world = begin(tmp_path, befallen(forever), a="Hello.")

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life) == {"a": (DEAD, 3)}
        error = life.record("a").error
        assert error.code == "missing"
        assert "HTTP 404" in error.message
        assert life.row("a").repaid == 3

    world.live(story)
    assert len(batched(world)) == 3


def test_five_minutes_are_counted_over_the_death_of_the_process_and_end_the_same_whenever_it_dies(tmp_path):
    world = begin(tmp_path, befallen(gone(files=("error",))), **BOTH)
    world.live(running)

    async def once(life: Life) -> None:
        await life.collect()

    world.live(once)
    for seconds in (100, 199):
        later(world.clock, seconds)
        world.live(once)
    for call in ("tasks.apply", "objects.put", "batches.apply"):
        later(world.clock, 60)
        with suppress(Crash):
            world.live(once, Dies(call, Side.AFTER, 1))

    async def rest(life: Life) -> None:
        await life.finish()
        assert ends(life) == {"a": (ANSWERED, 1), "bad": (DEAD, 2), "c": (ANSWERED, 2)}
        assert [life.row(name).repaid for name in BOTH] == [0, 1, 1]

    world.live(rest)
    assert len(batched(world)) == 2


@pytest.mark.parametrize(("status", "patience_s"), [(500, 2 * DAY), (503, 2 * DAY)])
def test_a_file_of_a_provider_that_is_unwell_is_asked_for_longer(tmp_path, status, patience_s):
    world = begin(tmp_path, befallen(gone(status, files=("output",))), **BOTH)

    async def story(life: Life) -> None:
        await running(life)
        while waited_s(life) < patience_s - HOUR:
            await life.collect()
            await life.pass_time(1_000)
        assert life.batch().state is BatchState.COLLECTING
        await life.finish(step_s=50)
        first = min(life.engine.batches.scan(), key=lambda row: row.created_at)
        assert (first.done_at - START).total_seconds() == pytest.approx(patience_s, abs=60)
        assert life.row("bad").state.value == "dead"
        assert life.row("a").repaid == 1

    world.live(story)


class RefusedKey:
    """The key may look at batches, and at nothing else."""

    def __init__(self, api) -> None:
        self._api = api
        self.refuses = True

    def __getattr__(self, name):
        return getattr(self._api, name)

    async def results(self, batch):
        if self.refuses:
            raise ProviderRefused(401, "invalid_api_key", "Incorrect API key provided.")
        async for line in self._api.results(batch):
            yield line


def test_where_the_account_is_refused_nothing_is_given_up(tmp_path):
    world = begin(tmp_path, **BOTH)

    async def story(life: Life) -> None:
        api = RefusedKey(life.system.batch_apis["openai"])
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        await running(life)
        for _ in range(10):
            await life.collect()
            await life.pass_time(DAY)
        assert life.batch().state is BatchState.COLLECTING
        api.refuses = False
        await life.finish()
        assert life.record("a").attempts == 1

    world.live(story)


def test_of_a_download_that_always_breaks_what_came_is_settled_after_an_hour(tmp_path):
    broken = Mishap(kind=MishapKind.DOWNLOAD_RESET, downloads=10**9, batches=(1,))
    names = {f"t{number:02d}": "Hello." for number in range(20)}
    world = begin(tmp_path, befallen(broken), **names)

    async def story(life: Life) -> None:
        await running(life)
        await life.finish(step_s=10)
        first = min(life.engine.batches.scan(), key=lambda row: row.created_at)
        assert (first.done_at - START).total_seconds() == pytest.approx(HOUR, abs=20)
        attempts = sorted(attempts for _, attempts in ends(life).values())
        assert set(attempts) == {1, 2}
        assert attempts.count(1) >= 9, "half of the file came"
        [away] = first.away
        assert (away.why, away.given_up) == (Away.KEPT_BACK, True)

    world.live(story)


def test_a_file_whose_name_is_dropped_is_read_all_the_same(tmp_path):
    """Some servers name the output while the batch runs, and the last look does not repeat it."""
    world = begin(tmp_path, befallen(min_s=100, max_s=100), **BOTH)

    class Dropping(RefusedKey):
        refuses = False

        async def get(self, provider_batch_id):
            batch = await self._api.get(provider_batch_id)
            if batch.ended:
                return batch.model_copy(update={"output_ref": None})
            [known] = world.provider._batches.values()
            return batch.model_copy(update={"output_ref": "file-early"}) if known else batch

        async def results(self, batch):
            refs = {"file-early": world.provider.batch(batch.id)["output_file_id"]}
            async for line in self._api.results(batch.with_only(refs.get(batch.output_ref, batch.output_ref))):
                yield line

    async def story(life: Life) -> None:
        api = Dropping(life.system.batch_apis["openai"])
        api.refuses = False
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        await running(life)
        await life.collect()
        await life.pass_time(200)
        await life.collect()
        assert life.record("a").attempts == 1

    world.live(story)


# --- there, and written otherwise -----------------------------------------------------------------------------------

READABLE = sorted(set(Dialect) - {Dialect.HTML, Dialect.STRAY_LINES})


@pytest.mark.parametrize("dialect", READABLE)
def test_a_file_is_read_whatever_dialect_it_is_written_in(tmp_path, dialect):
    mishap = Mishap(kind=MishapKind.DIALECT, dialects=(dialect,))
    world = begin(tmp_path, befallen(mishap), a="Hello.", b="Hello too.", c="[sim:500-once]", bad="[sim:500]")

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life) == {"a": (ANSWERED, 1), "b": (ANSWERED, 1), "c": (ANSWERED, 2), "bad": (DEAD, 3)}
        assert "The prompt asked for HTTP 500." in " ".join(life.record("bad").error.message.split())
        assert life.record("a").usage.output_tokens > 0
        assert world.metrics.total("unknown_lines") == 0

    world.live(story)
    assert len(batched(world)) == 3


def test_dialects_may_come_together(tmp_path):
    together = (
        Dialect.STATUS_TEXT,
        Dialect.ERROR_TEXT,
        Dialect.STRING_BODY,
        Dialect.ARRAY,
        Dialect.UTF_16,
        Dialect.GZIP,
    )
    mishap = Mishap(kind=MishapKind.DIALECT, dialects=together)
    world = begin(tmp_path, befallen(mishap), a="Hello.", b="Hello too.", c="[sim:500-once]")

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life) == {"a": (ANSWERED, 1), "b": (ANSWERED, 1), "c": (ANSWERED, 2)}

    world.live(story)


def test_a_web_page_in_place_of_a_file_is_asked_for_again_shown_and_given_up(tmp_path):
    page = Mishap(kind=MishapKind.DIALECT, dialects=(Dialect.HTML,), files=("output",), batches=(1,))
    world = begin(tmp_path, befallen(page), **BOTH)

    async def story(life: Life) -> None:
        await all_of_it(life)
        assert ends(life) == {"a": (ANSWERED, 2), "bad": (DEAD, 1), "c": (ANSWERED, 2)}
        first = min(life.engine.batches.scan(), key=lambda row: row.created_at)
        assert first.done_at - START >= timedelta(minutes=5)
        assert first.tally.unread == 3
        kept = [orjson.loads(raw) for raw in life.system.objects.lines(unread_key(first.batch_id))]
        assert [entry["raw"] for entry in kept] == [
            "<!doctype html>",
            "<title>Sign in</title>",
            "<p>Please sign in.",
        ]

    world.live(story)


@pytest.mark.parametrize("seconds", [200, DAY])
def test_a_file_of_another_batch_is_asked_for_again_and_settles_nothing(tmp_path, seconds):
    world = begin(tmp_path, a="Hello.", b="Hello too.")

    class AnothersAtFirst(RefusedKey):
        async def results(self, batch):
            async for line in self._api.results(batch):
                first = (world.clock.now() - START).total_seconds() < seconds and batch.id == batches(world)[0]
                yield line.replace(b'"custom_id":"', b'"custom_id":"z') if first else line

    async def story(life: Life) -> None:
        api = AnothersAtFirst(life.system.batch_apis["openai"])
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        await all_of_it(life)
        assert ends(life) == dict.fromkeys("ab", (ANSWERED, 1 if seconds == 200 else 2))
        assert {life.row(name).repaid for name in "ab"} == {0 if seconds == 200 else 1}

    world.live(story)


def batches(world) -> list[str]:
    return list(world.provider._batches)


def test_an_output_file_that_is_empty_although_requests_completed_is_asked_for_again(tmp_path):
    world = begin(tmp_path, a="Hello.", b="Hello too.")

    class EmptyAtFirst(RefusedKey):
        async def results(self, batch):
            if life_s() >= 120:
                async for line in self._api.results(batch):
                    yield line

    def life_s() -> float:
        return (world.clock.now() - START).total_seconds()

    async def story(life: Life) -> None:
        api = EmptyAtFirst(life.system.batch_apis["openai"])
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        await all_of_it(life)
        assert ends(life) == dict.fromkeys("ab", (ANSWERED, 1))

    world.live(story)
    assert len(batched(world)) == 2


class Rewriting(RefusedKey):
    def __init__(self, api, rewrite) -> None:
        super().__init__(api)
        self._rewrite = rewrite

    async def results(self, batch):
        async for line in self._api.results(batch):
            for rewritten in self._rewrite(line):
                yield rewritten


def test_what_cannot_be_read_is_shown_with_its_place_and_kept_and_never_logged(tmp_path):
    world = begin(tmp_path, a="Hello.")
    secret = b"my password is tr0ub4dor"

    async def story(life: Life) -> None:
        stray = [b"", secret, b'{"custom_id": "somebody-1", "response": "' + secret + b'"}', b"\xff" + secret]
        api = Rewriting(life.system.batch_apis["openai"], lambda line: [*stray, line])
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        await all_of_it(life)
        assert ends(life) == {"a": (ANSWERED, 1)}
        [row] = life.engine.batches.scan()
        [told] = [line for line in world.metrics.lines if line.event == "unknown_lines"]
        ref = row.provider_batch.output_ref
        assert told.fields["places"] == [
            f"{ref}, line 2: there is no JSON object",
            f"{ref}, line 3 (somebody-1): it is about no line of this batch",
            f"{ref}, line 4: there is no JSON object",
        ]
        assert (told.fields["lines"], row.tally.unread) == (3, 3)
        assert "tr0ub4dor" not in str(world.metrics.lines)
        kept = [orjson.loads(raw) for raw in life.system.objects.lines(told.fields["kept"])]
        assert [entry.get("raw") for entry in kept[:2]] == [each.decode() for each in stray[1:3]]
        assert kept[2]["raw_base64"]

    world.live(story)


@pytest.mark.parametrize(("call", "nth"), [("objects.put", 1), ("objects.put", 2), ("batches.apply", 3)])
def test_what_cannot_be_read_is_kept_before_the_file_is_deleted(tmp_path, call, nth):
    world = begin(tmp_path, a="Hello.", b="Hello.")
    world.live(running)

    def rewriting(life: Life) -> Life:
        api = Rewriting(life.system.batch_apis["openai"], lambda line: [b"no JSON", line])
        return replace(life, system=replace(life.system, batch_apis={"openai": api}))

    async def once(life: Life) -> None:
        await rewriting(life).collect()

    with suppress(Crash):
        world.live(once, Dies(call, Side.AFTER, nth))

    async def rest(life: Life) -> None:
        await rewriting(life).finish()
        [row] = life.engine.batches.scan()
        assert row.tally.unread == 2
        assert len(list(life.system.objects.lines(unread_key(row.batch_id)))) == 2

    world.live(rest)


# --- deleting what was read -----------------------------------------------------------------------------------------


class Undeletable(RefusedKey):
    """It deletes no file whose id begins so."""

    def __init__(self, api, prefix: str = "", status: int = 403) -> None:
        super().__init__(api)
        self.refuses = False
        self._prefix, self._status = prefix, status

    async def clean(self, refs):
        for ref in refs:
            if ref.startswith(self._prefix):
                raise ProviderRefused(self._status, None, f"HTTP {self._status}: not this one")
        await self._api.clean(refs)


@pytest.mark.parametrize("status", [403, 410, 500])
def test_a_file_that_was_given_up_keeps_no_batch_open_by_refusing_to_be_deleted(tmp_path, status):
    world = begin(tmp_path, befallen(gone(410, files=("error",))), **BOTH)

    async def story(life: Life) -> None:
        await running(life)
        [batch] = world.provider._batches.values()
        api = Undeletable(life.system.batch_apis["openai"], batch.file_ids["error"], status)
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        await life.finish(step_s=10)
        first = min(life.engine.batches.scan(), key=lambda row: row.created_at)
        assert first.done_at - START < timedelta(minutes=6)
        assert "files_left" in world.metrics.events()

    world.live(story)


@pytest.mark.parametrize("status", [403, 500])
def test_files_that_are_never_deleted_are_left_to_expire_after_two_days(tmp_path, status):
    world = begin(tmp_path, a="Hello.")

    async def story(life: Life) -> None:
        api = Undeletable(life.system.batch_apis["openai"], status=status)
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        await running(life)
        await life.finish(step_s=HOUR)
        [row] = life.engine.batches.scan()
        assert 2 * DAY <= (row.done_at - START).total_seconds() < 2 * DAY + 2 * HOUR
        assert ends(life) == {"a": (ANSWERED, 1)}

    world.live(story)


def test_files_that_a_refused_key_cannot_delete_are_waited_for(tmp_path):
    world = begin(tmp_path, a="Hello.")

    async def story(life: Life) -> None:
        api = Undeletable(life.system.batch_apis["openai"], status=401)
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        await running(life)
        for _ in range(5):
            await life.collect()
            await life.pass_time(DAY)
        assert life.batch().state is BatchState.CLEANING

    world.live(story)
