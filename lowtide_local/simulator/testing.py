"""What a test needs around the simulated provider: a clock to turn, a client in process, a server on a socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread

import httpx2
import uvicorn

from lowtide.adapters.openai.client import Client, build_client

from .app import build_app
from .provider import SimulatedProvider
from .server import listen, server


class SteppingClock:
    """A ports.Clock that stands still, except where somebody sleeps or advances it."""

    def __init__(self, start: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)


def connect(provider: SimulatedProvider, *, base_url: str = "http://simulated/v1", api_key: str = "any") -> Client:
    """A client of the provider in this very process, without a socket or a thread."""
    transport = httpx2.ASGITransport(app=build_app(provider))
    return build_client(base_url=base_url, api_key=api_key, http_client=httpx2.AsyncClient(transport=transport))


@contextmanager
def on_a_socket(provider: SimulatedProvider) -> Iterator[str]:
    """The provider on a free port of this machine, served from a thread; its base URL."""
    with running(server(provider)) as base_url:
        yield base_url


@contextmanager
def running(served: uvicorn.Server) -> Iterator[str]:
    """Run any server on a free port of this machine, in a thread. Give its base URL."""
    with listen(0) as listener:
        thread = Thread(target=served.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not served.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            served.should_exit = True
            thread.join()
