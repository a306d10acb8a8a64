"""The one place that builds clients of OpenAI-compatible providers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx2
from httpx2 import AsyncClient
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from lowtide.adapters.library_logs import switch_off
from lowtide.core.errors import KeyUnreadable, safely_told

from .guard import watch

Key = Callable[[], Awaitable[str]]
"""Gives the key of the moment: asked before every request, so that a rotated one needs no new client."""

LIMITS = httpx2.Limits(max_connections=256, max_keepalive_connections=64)
"""More connections than a consumer has calls in flight."""
CONNECT_TIMEOUT_S = 5.0
TIMEOUT = httpx2.Timeout(120.0, connect=CONNECT_TIMEOUT_S)
"""Seconds that a batch call may pause, an upload or a download between two chunks. Real-time calls bring their own."""
_NO_KEY = "none"
"""The SDK insists on a key; a server on this machine asks for none."""


def build_client(
    *, base_url: str | None, api_key: str | Key, http_client: httpx2.AsyncClient | None = None
) -> AsyncOpenAI:
    """A client that sends each request once: a repeated creation would buy a second batch.

    Where an ``api_key`` that is asked for cannot be had, the request raises KeyUnreadable, and nothing was sent.
    ``base_url`` ends in ``/v1``; None is OpenAI's own. ``http_client`` replaces the transport (tests, a simulated
    provider in process).
    """
    switch_off()
    client = AsyncOpenAI(
        base_url=base_url,
        api_key=(api_key or _NO_KEY) if isinstance(api_key, str) else _told(api_key),
        max_retries=0,
        timeout=TIMEOUT,
        http_client=watch(http_client or _http_client(base_url)),
    )
    # The first request would look the platform up on a thread, for a telemetry header. An event loop on virtual time
    # waits for no thread, and nobody here needs the header.
    client._platform = "Unknown"  # noqa: SLF001 - there is no public way to set it
    return client


def _told(key: Key) -> Key:
    """Whatever goes wrong with the key is told apart from what goes wrong with a request."""

    async def read() -> str:
        try:
            found = await key()
        except Exception as error:
            raise KeyUnreadable(f"the provider's key cannot be had: {safely_told(error)}") from error
        if not found or found != found.strip() or not (found.isascii() and found.isprintable()):
            raise KeyUnreadable("the provider's key is empty or holds what no header may: store it anew")
        return found

    return read


def is_openai(client: AsyncOpenAI) -> bool:
    """Is it OpenAI itself, and not one that speaks its protocol? Some of those refuse fields they do not know."""
    return is_openai_url(str(client.base_url))


def is_openai_url(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "openai.com" or host.endswith(".openai.com")


def _http_client(base_url: str | None) -> AsyncClient:
    """A proxy of the environment is for the way out: what is on this machine is asked directly."""
    host = urlsplit(base_url or "").hostname or ""
    local = host in ("localhost", "::1") or host.startswith("127.")
    return DefaultAsyncHttpxClient(limits=LIMITS, timeout=TIMEOUT, trust_env=not local)
