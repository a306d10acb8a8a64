"""OpenAI's own SDK as the simulated provider's client: what it takes and gives must suit a client that is not ours."""

from __future__ import annotations

import httpx2
from openai import AsyncOpenAI

from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.provider import SimulatedProvider


def sdk(base_url: str, *, api_key: str = "any", http_client: httpx2.AsyncClient | None = None) -> AsyncOpenAI:
    """The SDK without its retries, so that a test sees each answer."""
    return AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0, http_client=http_client)


def connect(provider: SimulatedProvider, *, api_key: str = "any") -> AsyncOpenAI:
    """The SDK before a provider in this very process, without a socket."""
    transport = httpx2.ASGITransport(app=build_app(provider))
    return sdk("http://simulated/v1", api_key=api_key, http_client=httpx2.AsyncClient(transport=transport))
