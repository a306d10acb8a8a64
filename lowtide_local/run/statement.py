"""What the provider says it billed this run. Only the simulated one can be asked, and it listens on this machine."""

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
_UNREADABLE = "its bill cannot be read"


class _Untold(Exception):
    """Why there is no bill."""


async def ask(endpoint: Endpoint, engine: Engine) -> None:
    """Keeps what the provider bills this run, or why that is not known, so that a finished run reconciles the same ever
    after."""
    try:
        told: Any = await _lines(endpoint, deployment_of(engine))
    except _Untold as error:
        told = {"not_told": str(error)}
    engine.objects.put(_KEPT, orjson.dumps(told))


def billed(engine: Engine) -> Sequence[BilledLine] | str:
    """Return the bill as kept, or in a few words why it is not known."""
    try:
        told = orjson.loads(engine.objects.get(_KEPT))
        return str(told["not_told"]) if isinstance(told, dict) else [BilledLine.of(line) for line in told]
    except (NotFound, KeyError, TypeError, ValueError):
        return _UNREADABLE


async def _lines(endpoint: Endpoint, run: str) -> list[dict[str, Any]]:
    """Of a provider that may serve others too: the calls with this run's name, and the lines of its batches."""
    if not endpoint.local:
        raise _Untold(f"{endpoint.base_url} has no bill that could be asked for")
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
    except httpx2.TimeoutException:
        raise _Untold(f"asked for its bill, {endpoint.base_url} gave no answer in {ASKING_S:.0f} s") from None
    except httpx2.HTTPError as error:
        raise _Untold(f"asked for its bill, {endpoint.base_url} gave no answer ({type(error).__name__})") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _Untold(_UNREADABLE) from None


async def _json(client: httpx2.AsyncClient, url: str) -> Any:
    reply = await client.get(url, timeout=ASKING_S)
    if reply.is_error or reply.is_redirect:
        raise _Untold(f"it has no bill that could be asked for (HTTP {reply.status_code})")
    return orjson.loads(reply.content)
