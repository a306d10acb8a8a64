"""What a call costs the process that makes it, beside a bare loop over OpenAI's own SDK, and over aiohttp.

The provider is a process of its own, so that its time is not counted. Rounds alternate, and what is compared is the
processor's time: on a machine with others at work the wall says little. How long the slowest call in a hundred takes is
shown beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from http import HTTPStatus
from statistics import median

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient

from lowtide.adapters.clock import WallClock
from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.client import LIMITS, TIMEOUT, build_client
from lowtide.core.lanes import Lane
from lowtide.core.task import Endpoint
from lowtide.ports import Call
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import Scenario
from lowtide_local.simulator.server import listen, server

CONTENT = "Say hello. " * 200
BODY = {"model": "gpt-6.1-terra", "messages": [{"role": "user", "content": CONTENT}]}
BARE = "SDK"
Make = Callable[[], Awaitable[None]]


@asynccontextmanager
async def _sdk(base_url: str, transport: Callable[..., httpx2.AsyncClient]) -> AsyncGenerator[Make]:
    http_client = transport(limits=LIMITS, timeout=TIMEOUT, trust_env=False)
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, http_client=http_client) as client:

        async def call() -> None:
            await client.chat.completions.create(model="gpt-6.1-terra", messages=[{"role": "user", "content": CONTENT}])

        yield call


@asynccontextmanager
async def _lowtide(base_url: str) -> AsyncGenerator[Make]:
    async with build_client(base_url=base_url, api_key="") as client:
        answers = OpenAIAnswers(client)

        async def call() -> None:
            response = await answers.answer(Call(Endpoint.CHAT, BODY, Lane.DEFAULT, "call", 60))
            if response.status != HTTPStatus.OK:
                raise AssertionError(f"a call brought {response}")

        yield call


WAYS: dict[str, Callable[[str], AbstractAsyncContextManager[Make]]] = {
    BARE: lambda base_url: _sdk(base_url, DefaultAsyncHttpxClient),
    "SDK, aiohttp": lambda base_url: _sdk(base_url, DefaultAioHttpClient),
    "lowtide": _lowtide,
}


def main() -> int:
    options = _options()
    spent: dict[str, list[float]] = {name: [] for name in WAYS}
    slowest: dict[str, list[float]] = {name: [] for name in WAYS}
    with _provider() as base_url:
        for _ in range(options.rounds):
            for name, way in WAYS.items():
                cpu_s, p99_s = asyncio.run(_round(way(base_url), options.calls, options.at_once))
                spent[name].append(cpu_s)
                slowest[name].append(p99_s)
    usual, late = median(spent[BARE]), median(slowest[BARE])
    print(f"{options.calls} calls, {options.at_once} at once, {options.rounds} rounds; x: times the SDK's")
    print("way           ms of the processor a call     x   p99, ms     x")
    for name in WAYS:
        cpu_s, p99_s = median(spent[name]), median(slowest[name])
        cpu = f"{cpu_s / options.calls * 1000:26.2f}  {cpu_s / usual:4.2f}"
        print(f"{name:12}  {cpu}  {p99_s * 1000:8.1f}  {p99_s / late:4.2f}")
    return 0


async def _round(way: AbstractAsyncContextManager[Make], calls: int, at_once: int) -> tuple[float, float]:
    """Return this process's processor time, and the time of the slowest call in a hundred, both in seconds."""
    async with way as make:
        slots, took = asyncio.Semaphore(at_once), []

        async def call() -> None:
            async with slots:
                began = time.perf_counter()
                await make()
                took.append(time.perf_counter() - began)

        await asyncio.gather(*(call() for _ in range(at_once)))  # the connections
        took.clear()
        began = time.process_time()
        await asyncio.gather(*(call() for _ in range(calls)))
        return time.process_time() - began, sorted(took)[int(len(took) * 0.99)]


@contextmanager
def _provider() -> Iterator[str]:
    with listen(0) as listener:
        served = multiprocessing.get_context("fork").Process(target=_serve, args=(listener,))
        served.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            served.terminate()
            served.join()


def _serve(listener: socket.socket) -> None:
    server(SimulatedProvider(Scenario(), WallClock())).run(sockets=[listener])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.calls", description=__doc__)
    parser.add_argument("--calls", type=int, default=2_000, help="a round (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=50, help="in flight (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each way (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
