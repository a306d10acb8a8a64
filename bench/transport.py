"""What a call costs the process that makes it, over each transport that the provider's SDK has.

The provider is a process of its own, so that its time is not counted. Rounds alternate, and what is compared is the
processor's time: on a machine with others at work the wall says little.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from statistics import median

from httpx2 import AsyncClient
from openai import DefaultAioHttpClient, DefaultAsyncHttpxClient

from lowtide.adapters.clock import WallClock
from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.client import LIMITS, TIMEOUT, build_client
from lowtide.core.lanes import Lane
from lowtide.core.task import Endpoint
from lowtide.ports import Call
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import Scenario
from lowtide_local.simulator.server import listen, server

TRANSPORTS: dict[str, Callable[[], AsyncClient]] = {
    "httpx": lambda: DefaultAsyncHttpxClient(limits=LIMITS, timeout=TIMEOUT, trust_env=False),
    "aiohttp": lambda: DefaultAioHttpClient(limits=LIMITS, timeout=TIMEOUT, trust_env=False),
}
BODY = {"model": "gpt-6.1-terra", "messages": [{"role": "user", "content": "Say hello. " * 200}]}


def main() -> int:
    options = _options()
    spent: dict[str, list[float]] = {name: [] for name in TRANSPORTS}
    with _provider() as base_url:
        for _ in range(options.rounds):
            for name, transport in TRANSPORTS.items():
                spent[name].append(asyncio.run(_round(base_url, transport, options.calls, options.at_once)))
    usual = median(spent["httpx"])
    print(f"{options.calls} calls, {options.at_once} at once, {options.rounds} rounds")
    print("transport  ms of the processor a call  of httpx's")
    for name, seconds in spent.items():
        print(f"{name:9}  {median(seconds) / options.calls * 1000:26.2f}  {median(seconds) / usual:10.2f}")
    return 0


async def _round(base_url: str, transport: Callable[[], AsyncClient], calls: int, at_once: int) -> float:
    """Seconds of this process's processor time. Raises AssertionError where a call was not answered."""
    async with build_client(base_url=base_url, api_key="", http_client=transport()) as client:
        answers, slots = OpenAIAnswers(client), asyncio.Semaphore(at_once)

        async def call(number: int) -> None:
            async with slots:
                response = await answers.answer(Call(Endpoint.CHAT, BODY, Lane.DEFAULT, f"call-{number}", 60))
            if response.status != HTTPStatus.OK:
                raise AssertionError(f"call {number} brought {response}")

        await asyncio.gather(*(call(number) for number in range(at_once)))  # the connections
        began = time.process_time()
        await asyncio.gather(*(call(number) for number in range(calls)))
        return time.process_time() - began


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
    parser = argparse.ArgumentParser(prog="python -m bench.transport", description=__doc__)
    parser.add_argument("--calls", type=int, default=2_000, help="a round (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=64, help="in flight (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each transport (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
