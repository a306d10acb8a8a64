"""lowtide.core.trace: whose trace is on what is logged."""

from __future__ import annotations

import asyncio
from contextvars import Context

import pytest

from lowtide.core import trace
from lowtide.core.trace import traced, traced_from_here, traceparent_of, untraced
from lowtide.steps.coalesce import Coalescer
from lowtide_local.engine.engine import in_place

FIRST, SECOND = (f"00-{digit * 32}-{digit * 16}-01" for digit in "ab")


def test_neighbours_that_take_turns_keep_their_own():
    async def seen(traceparent):
        with traced(traceparent):
            await asyncio.sleep(0)
            return trace.current(), await asyncio.to_thread(trace.current)

    async def both():
        return await asyncio.gather(seen(FIRST), seen(SECOND), seen(None))

    assert asyncio.run(both()) == [(FIRST, FIRST), (SECOND, SECOND), (None, None)]
    assert trace.current() is None


def test_what_is_done_for_several_tasks_at_once_bears_none():
    seen = []

    async def asking(coalescer, traceparent):
        with traced(traceparent):
            await coalescer(traceparent)

    async def both():
        coalescer = Coalescer(lambda items: seen.append(trace.current()) or items, in_place)
        await asyncio.gather(asking(coalescer, FIRST), asking(coalescer, SECOND))

    asyncio.run(both())
    assert set(seen) == {None}


def test_a_context_for_what_outlives_a_task_has_all_but_its_trace():
    with traced(FIRST):
        assert untraced().run(trace.current) is None
        assert trace.current() == FIRST


@pytest.mark.parametrize(
    ("given", "shared"), [([FIRST, FIRST], FIRST), ([FIRST, SECOND], None), ([FIRST, None], None), ([], None)]
)
def test_tasks_share_a_trace_only_where_all_have_the_same(given, shared):
    def seen():
        traced_from_here(given)
        return trace.current()

    assert Context().run(seen) == shared


def test_a_coroutine_that_is_unwound_elsewhere_ends_in_silence():
    async def worked_on():
        with traced(FIRST):
            await asyncio.sleep(0)

    coroutine = worked_on()
    Context().run(coroutine.send, None)
    Context().run(coroutine.close)


@pytest.mark.parametrize(
    "raw", [None, [], "text", {}, {"traceparent": None}, {"traceparent": FIRST[:-1]}, {"traceparent": FIRST.upper()}]
)
def test_what_is_no_trace_is_none(raw):
    assert traceparent_of(raw) is None
    assert traceparent_of({"traceparent": FIRST}) == FIRST
