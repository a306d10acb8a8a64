"""The line from the functions to the simulated provider: replies take a while, and on some of them somebody dies."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import httpx2

from lowtide.adapters.clock import WallClock
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import Scenario

from .containers import Invocation
from .hands import standing_still

LAG_S = 0.05
"""A reply's way. Functions that run at the same time meet while they wait for one."""

_ID = re.compile(r"/(file|batch)[-_][^/]+")


@dataclass(frozen=True, slots=True)
class Death:
    """Whoever makes the ``nth`` request of ``route`` (``GET /v1/files/{id}/content``) dies before its reply comes:
    the provider has done what it was asked, and nobody can write it down."""

    route: str
    nth: int
    told: str = ""


@dataclass(frozen=True, slots=True)
class Died:
    at: datetime
    function: str
    death: Death


class Line(httpx2.AsyncBaseTransport):
    """To a provider that starts at ``start``. ``before`` hears of each route (``POST /v1/batches``) that is asked."""

    def __init__(self, scenario: Scenario, start: datetime, *deaths: Death) -> None:
        with standing_still(start):
            self.provider = SimulatedProvider(scenario, WallClock())
        self.client = httpx2.AsyncClient(transport=self)
        self.before: Callable[[str], None] = lambda _route: None
        self.died: list[Died] = []
        self._app = httpx2.ASGITransport(app=build_app(self.provider))
        self._deaths = {(death.route, death.nth): death for death in deaths}
        self._asked: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        route = f"{request.method} {_ID.sub('/{id}', request.url.path)}"
        self.before(route)
        self._asked[route] += 1
        death = self._deaths.get((route, self._asked[route]))
        response = await self._app.handle_async_request(request)
        invocation = Invocation.here()
        if death is not None and invocation is not None:
            self.died.append(Died(WallClock().now(), invocation.container.function.name, death))
            invocation.doom(death.told)
        await asyncio.sleep(LAG_S)
        return response
