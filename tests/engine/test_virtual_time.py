from __future__ import annotations

import asyncio
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio.to_thread
import httpx2
import pytest
from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lowtide_local.engine.clock import Deadlock, VirtualClock, run_virtual

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_day_of_sleep_takes_no_time() -> None:
    async def main(clock: VirtualClock) -> datetime:
        assert clock.now() == START
        await clock.sleep(86_400)
        return clock.now()

    began = time.perf_counter()
    assert run_virtual(main, START) == START + timedelta(days=1)
    assert time.perf_counter() - began < 1


def test_sleepers_wake_in_the_order_of_their_moments() -> None:
    async def main(clock: VirtualClock) -> list[tuple[int, datetime]]:
        woken: list[tuple[int, datetime]] = []

        async def sleeper(seconds: int) -> None:
            await asyncio.sleep(seconds)
            woken.append((seconds, clock.now()))

        await asyncio.gather(*(sleeper(seconds) for seconds in (30, 7200, 10, 90_000, 10)))
        return woken

    woken = run_virtual(main, START)
    assert woken == [(s, START + timedelta(seconds=s)) for s in (10, 10, 30, 7200, 90_000)]


def test_what_is_ready_runs_before_time_passes() -> None:
    async def main(clock: VirtualClock) -> list[str]:
        order: list[str] = []

        async def busy() -> None:
            for _ in range(1000):
                await asyncio.sleep(0)
            order.append("busy")

        async def sleeper() -> None:
            await asyncio.sleep(0.001)
            order.append("slept")

        await asyncio.gather(sleeper(), busy())
        return order

    assert run_virtual(main, START) == ["busy", "slept"]


def test_a_timeout_ends_at_its_moment() -> None:
    async def main(clock: VirtualClock) -> datetime:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(240):
                await asyncio.sleep(3600)
        return clock.now()

    assert run_virtual(main, START) == START + timedelta(seconds=240)


def test_a_timeout_that_is_not_reached_costs_nothing() -> None:
    async def main(clock: VirtualClock) -> datetime:
        async with asyncio.timeout(240):
            await asyncio.sleep(239)
        return clock.now()

    assert run_virtual(main, START) == START + timedelta(seconds=239)


def test_a_semaphore_makes_ten_hours_of_work_take_five() -> None:
    async def main(clock: VirtualClock) -> datetime:
        slots = asyncio.Semaphore(2)

        async def work() -> None:
            async with slots:
                await asyncio.sleep(3600)

        await asyncio.gather(*(work() for _ in range(10)))
        return clock.now()

    assert run_virtual(main, START) == START + 5 * HOUR


def test_a_sleep_until_a_moment_never_wakes_before_it() -> None:
    async def main(clock: VirtualClock) -> None:
        for number in range(2000):
            moment = clock.now() + timedelta(milliseconds=1 + 37 * number % 1000)
            await clock.sleep((moment - clock.now()).total_seconds())
            assert clock.now() >= moment
            await clock.sleep(1 / 3)
            assert clock.now().microsecond % 1000 == 0

    run_virtual(main, START)


def test_two_runs_are_the_same_to_the_last_event() -> None:
    async def main(clock: VirtualClock) -> list[tuple[str, datetime]]:
        seen: list[tuple[str, datetime]] = []
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def producer(name: str, pause: float) -> None:
            for number in range(20):
                await clock.sleep(pause)
                queue.put_nowait(number)
                seen.append((name, clock.now()))

        async def consumer(name: str) -> None:
            for _ in range(20):
                await queue.get()
                await clock.sleep(1.7)
                seen.append((name, clock.now()))

        await asyncio.gather(producer("a", 0.3), producer("b", 0.7), consumer("c"), consumer("d"))
        return seen

    assert run_virtual(main, START) == run_virtual(main, START)


def test_whoever_follows_the_clock_hears_every_new_moment() -> None:
    heard: list[datetime] = []

    async def main(clock: VirtualClock) -> None:
        await clock.sleep(60)
        await asyncio.sleep(0)
        await clock.sleep(3600)

    run_virtual(main, START, on_advance=heard.append)
    assert heard == [START + timedelta(seconds=60), START + timedelta(seconds=3660)]


@pytest.mark.parametrize("in_thread", [asyncio.to_thread, anyio.to_thread.run_sync])
def test_work_on_a_thread_is_waited_for_in_real_time(in_thread: Any) -> None:
    async def main(clock: VirtualClock) -> tuple[str, datetime]:
        async with asyncio.timeout(1):
            await in_thread(time.sleep, 0.05)
        return "worked", clock.now()

    assert run_virtual(main, START) == ("worked", START)


def test_after_a_thread_time_jumps_again() -> None:
    async def main(clock: VirtualClock) -> datetime:
        await asyncio.to_thread(time.sleep, 0.01)
        await anyio.to_thread.run_sync(time.sleep, 0.01)
        await clock.sleep(3600)
        return clock.now()

    assert run_virtual(main, START) == START + HOUR


def answer_later(peer: socket.socket) -> None:
    time.sleep(0.05)
    peer.send(b"real")


def test_a_socket_without_a_timer_is_waited_for_in_real_time() -> None:
    async def main(clock: VirtualClock) -> bytes:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(None, answer_later, theirs)
            received = await reader.read(4)
            await work
            writer.close()
            await writer.wait_closed()
        return received

    assert run_virtual(main, START) == b"real"


def test_waiting_for_what_can_never_come_is_said_instead_of_hanging() -> None:
    async def main(clock: VirtualClock) -> None:
        await clock.sleep(60)
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="every coroutine waits"):
        run_virtual(main, START)


def test_a_failure_comes_out_as_it_is() -> None:
    async def main(clock: VirtualClock) -> None:
        background = asyncio.create_task(clock.sleep(86_400))
        await clock.sleep(1)
        assert not background.done()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_virtual(main, START)


def test_the_sdk_waits_an_hour_for_a_slow_provider_at_once() -> None:
    async def slow(request: Request) -> JSONResponse:
        asked = await request.json()
        await asyncio.sleep(3600)
        message = {"role": "assistant", "content": "at last"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return JSONResponse(
            {"id": "c1", "object": "chat.completion", "created": 0, "model": asked["model"], "choices": [choice]}
        )

    app = Starlette(routes=[Route("/v1/chat/completions", slow, methods=["POST"])])

    async def main(clock: VirtualClock) -> tuple[str | None, datetime]:
        transport = httpx2.ASGITransport(app=app)
        async with (
            httpx2.AsyncClient(transport=transport, base_url="http://provider") as http,
            AsyncOpenAI(api_key="none", base_url="http://provider/v1", http_client=http, timeout=7200) as client,
        ):
            answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
        return answer.choices[0].message.content, clock.now()

    began = time.perf_counter()
    assert run_virtual(main, START) == ("at last", START + HOUR)
    assert time.perf_counter() - began < 10
