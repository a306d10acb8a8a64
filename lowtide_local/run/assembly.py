"""The embedded system: the deployed steps on the embedded engine, against one provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx2

from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client, is_openai
from lowtide.adapters.shipped import shipped_prices
from lowtide.core.prices import PriceTable
from lowtide.core.routes import Routes
from lowtide.core.tiers import Tier
from lowtide.ports import AnswerApi, BatchApi, Clock, Metrics, System
from lowtide.steps.counted_tasks import CountedTasks
from lowtide_local.engine.engine import Engine, in_place
from lowtide_local.engine.queue import STRANDED


class Nobody:
    """A run records ``reply_to`` and delivers nothing: no reply, no event, no callback."""

    taken = False

    def send(self, told: Sequence[object]) -> None:
        pass


def assemble(
    engine: Engine,
    *,
    clock: Clock,
    routes: Routes,
    metrics: Metrics,
    deployment: str,
    base_url: str,
    api_key: str,
    http_client: httpx2.AsyncClient | None = None,
) -> System:
    """One provider answers for all that routes.toml names: an endpoint is what a run is given."""
    client = build_client(base_url=base_url, api_key=api_key, http_client=http_client)
    return on_engine(
        engine,
        deployment=deployment,
        routes=routes,
        prices=shipped_prices(),
        clock=clock,
        answers=dict.fromkeys(routes.providers, OpenAIAnswers(client, sends_default_tier=is_openai(client))),
        batch_apis=dict.fromkeys(routes.providers, OpenAIBatches(client, clock)),
        metrics=metrics,
    )


def on_engine(
    engine: Engine,
    *,
    deployment: str,
    routes: Routes,
    prices: PriceTable,
    clock: Clock,
    answers: Mapping[str, AnswerApi],
    batch_apis: Mapping[str, BatchApi],
    metrics: Metrics,
) -> System:
    """Every storage port is the engine's, and nobody outside is told anything."""
    return System(
        deployment=deployment,
        routes=routes,
        prices=prices,
        clock=clock,
        intake=engine.queue("intake"),
        tiers={tier: engine.queue(tier.value) for tier in Tier},
        levels=engine.levels(),
        dead_letters=engine.queue("dead-letters"),
        stranded=engine.queue(STRANDED),
        objects=engine.objects,
        tasks=CountedTasks(engine.tasks, metrics),
        parts=engine.parts,
        batches=engine.batches,
        paces=engine.paces,
        holds=engine.holds,
        ledger=engine.ledger,
        answers=answers,
        batch_apis=batch_apis,
        replies=Nobody(),
        events=Nobody(),
        callbacks=Nobody(),
        metrics=metrics,
        offload=in_place,
    )
