"""Collecting a second time, and collecting what no provider should send: nothing settled changes, nothing stops it."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from lowtide.core.records import Status
from lowtide.core.task import custom_id
from lowtide.core.tasks import TaskState
from lowtide_local.engine.crashes import Crash, Side
from tests.steps.one_lot import all_of_it, batched, begin, ends, running
from tests.sweep.world import Dies, Life

ANSWERED, DEAD = Status.ANSWERED, Status.DEAD


@pytest.mark.parametrize("nth", range(1, 5))
def test_collecting_again_after_a_crash_changes_nothing_that_was_settled(tmp_path, nth):
    world = begin(tmp_path, a="Hello.", b="[sim:refuse]", c="[sim:500-once]")
    world.live(running)
    with pytest.raises(Crash):
        world.live(Life.finish, Dies("batches.apply", Side.BEFORE, nth))

    async def story(life: Life) -> None:
        before = {row.task_id: row for row in life.engine.tasks.scan() if row.state is not TaskState.STAGED}
        await life.finish()
        assert {name: row for name, row in _rows(life).items() if name in before} == before
        assert ends(life) == {"a": (ANSWERED, 1), "b": (DEAD, 1), "c": (ANSWERED, 2)}
        assert len({letter["task"]["task_id"] for letter in life.letters()}) == 1

    world.live(story)
    assert len(batched(world)) == 2


def _rows(life: Life):
    return {row.task_id: row for row in life.engine.tasks.scan()}


@pytest.mark.parametrize(("call", "side"), [("tasks.apply", Side.AFTER), ("parts.apply", Side.BEFORE)])
def test_a_retry_part_is_the_same_however_often_it_is_written(tmp_path, call, side):
    world = begin(tmp_path, a="[sim:500-once]", b="[sim:missing-once]", c="Other. [sim:500-once]")
    world.live(running)

    async def collecting(life: Life) -> None:
        await life.collect()

    with pytest.raises(Crash):
        world.live(collecting, Dies(call, side))

    async def story(life: Life) -> None:
        [key] = [key for key in life.system.objects.keys("parts/") if key.startswith("parts/r-")]
        before = life.system.objects.get(key)
        later_rows = _rows(life)
        assert {row.attempt for row in later_rows.values()} == {2}
        await life.collect()
        assert life.system.objects.get(key) == before
        assert _rows(life) == later_rows
        await life.finish()
        assert ends(life) == dict.fromkeys("abc", (ANSWERED, 2))

    world.live(story)


class Rewriting:
    """A provider whose result lines come with something put in or left out."""

    def __init__(self, api, rewrite) -> None:
        self._api, self._rewrite = api, rewrite

    def __getattr__(self, name):
        return getattr(self._api, name)

    async def results(self, batch):
        async for line in self._api.results(batch):
            for rewritten in self._rewrite(line):
                yield rewritten


def rewriting(life: Life, rewrite) -> Life:
    api = Rewriting(life.system.batch_apis["openai"], rewrite)
    return replace(life, system=replace(life.system, batch_apis={"openai": api}))


def with_body(line: bytes, body: bytes) -> bytes:
    whole = orjson.loads(line)
    whole["response"]["body"] = "BODY"
    return orjson.dumps(whole).replace(b'"BODY"', body)


@pytest.mark.parametrize(
    "inner",
    [
        b'{"in":' * 300 + b"{}" + b"}" * 300,
        rb'"half of a pair: \ud800"',
        b'"no UTF-8: \xff"',
        b"NaN",
        b"1" + b"0" * 400,
        b'{"logprobs": "many"}',
    ],
)
def test_an_answer_that_no_row_could_hold_is_kept_as_well_as_it_can_be_and_harms_nothing_around_it(tmp_path, inner):
    body = b'{"choices": [{"message": {"content": ' + inner + b'}}], "usage": {"prompt_tokens": "many"}}'
    world = begin(tmp_path, a="1", b="2")

    async def story(life: Life) -> None:
        mine = custom_id("default", "a", 1).encode()
        life = rewriting(life, lambda line: [with_body(line, body) if mine in line else line])
        await all_of_it(life)
        assert ends(life) == dict.fromkeys("ab", (ANSWERED, 1))

    world.live(story)
    assert len(batched(world)) == 2


def test_a_late_answer_to_an_old_attempt_settles_nothing(tmp_path):
    world = begin(tmp_path, a="[sim:500-once]")
    first, second = (custom_id("default", "a", attempt).encode() for attempt in (1, 2))

    async def story(life: Life) -> None:
        def late(line: bytes) -> list[bytes]:
            return [line.replace(second, first).replace(b'"status_code":200', b'"status_code":400'), line]

        life = rewriting(life, late)
        await all_of_it(life)
        assert ends(life) == {"a": (ANSWERED, 2)}
        assert world.metrics.total("unknown_lines") == 1

    world.live(story)


def test_lines_about_nobody_are_counted_and_harm_nothing(tmp_path):
    world = begin(tmp_path, a="Hello.")

    async def story(life: Life) -> None:
        stray = [b"", b"no JSON", b'{"custom_id": "somebody-else"}', b"\xff\x00"]
        life = rewriting(life, lambda line: [*stray, line])
        await all_of_it(life)
        assert ends(life) == {"a": (ANSWERED, 1)}
        assert world.metrics.total("unknown_lines") == len(stray) - 1, "a blank line is none"

    world.live(story)
