"""What the provider says it billed this run. Only the simulated one can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx2
import orjson

from lowtide.adapters.openai.client import build_http_client
from lowtide.core.errors import NotFound
from lowtide_local.engine.engine import Engine

from .contact import call_name
from .directory import deployment_of
from .endpoint import Endpoint
from .reconcile import BilledLine

ASKING_S = 5.0
"""Seconds for each question."""

_KEPT = "statement.json"
_OK = 200


async def ask(endpoint: Endpoint, engine: Engine) -> None:
    """Keeps what the provider bills this run, so that a finished run reconciles the same ever after."""
    lines = await _lines(endpoint, deployment_of(engine))
    engine.objects.put(_KEPT, orjson.dumps(lines))


def billed(engine: Engine) -> Sequence[BilledLine] | None:
    """As kept; None where the provider could not be asked, or answered with something else."""
    try:
        lines = orjson.loads(engine.objects.get(_KEPT))
        return None if lines is None else [BilledLine.of(line) for line in lines]
    except (NotFound, KeyError, TypeError, ValueError):
        return None


async def _lines(endpoint: Endpoint, run: str) -> list[dict[str, Any]] | None:
    """Of a provider that may serve others too: the calls with this run's name, and the lines of its batches."""
    if not endpoint.at.local:
        return None  # only the simulated provider answers there, and it listens on this machine alone
    root = endpoint.base_url.removesuffix("/v1") + "/simulator"
    try:
        async with build_http_client(endpoint.base_url) as client:
            bill, state = await _json(client, f"{root}/billing"), await _json(client, f"{root}/state")
        batches = {
            batch["id"] for batch in state["batches"] if (batch["metadata"] or {}).get("lowtide_deployment") == run
        }
        prefix = call_name(run, "")
        return [
            line | {"id": str(line["id"]).removeprefix(prefix)}
            for line in bill["data"]
            if (line["batch_id"] in batches if line["kind"] == "batch" else str(line["id"]).startswith(prefix))
        ]
    except (httpx2.HTTPError, KeyError, TypeError, ValueError):
        return None


async def _json(client: httpx2.AsyncClient, url: str) -> Any:
    reply = await client.get(url, timeout=ASKING_S)
    return orjson.loads(reply.content) if reply.status_code == _OK else None
