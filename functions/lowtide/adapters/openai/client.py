"""The one place that builds clients of OpenAI-compatible providers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from urllib.parse import parse_qsl, urlsplit
from urllib.request import getproxies

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from lowtide.adapters.library_logs import switch_off
from lowtide.core.errors import Busy, ConfigError, KeyStoreAway, KeyUnreadable, safely_told
from lowtide.core.loopback import is_loopback

from .guard import watch

Key = Callable[[], Awaitable[str]]
"""Gives the key of the moment: asked before every request, so that a rotated one needs no new client."""

LIMITS = httpx2.Limits(max_connections=256, max_keepalive_connections=64)
"""More connections than a consumer has calls in flight."""
CONNECT_TIMEOUT_S = 5.0
TIMEOUT = httpx2.Timeout(120.0, connect=CONNECT_TIMEOUT_S)
"""Seconds that a batch call may pause, an upload or a download between two chunks. Real-time calls bring their own."""
_HIGHEST_PORT = 65_535
_NO_PROXY = "is no proxy that can be used: give http://HOST:PORT, or unset it"
_AWAITS_KEY = "waits for its key"
"""Marks the cancellation of a call that has no key yet."""
_NO_KEY = "none"
"""The SDK insists on a key; a server on this machine asks for none."""


def build_client(
    *, base_url: str | None, api_key: str | Key, http_client: httpx2.AsyncClient | None = None
) -> AsyncOpenAI:
    """A client that sends each request once: a repeated creation would buy a second batch.

    Where an ``api_key`` that is asked for cannot be had, the request raises KeyUnreadable or, if it may be had in a
    moment, KeyStoreAway, and nothing was sent.
    ``base_url`` ends in ``/v1``; None is OpenAI's own. Its query, such as Azure's ``api-version``, goes with every
    request. ``http_client`` replaces the one that ``build_http_client`` makes (tests, a simulated provider in process,
    a caller that closes it). Raises ConfigError as that does.
    """
    switch_off()
    address, _, query = (base_url or "").partition("?")
    client = AsyncOpenAI(
        base_url=address or None,
        default_query=dict(parse_qsl(query, keep_blank_values=True)) or None,
        api_key=(api_key or _NO_KEY) if isinstance(api_key, str) else _told(api_key),
        max_retries=0,
        timeout=TIMEOUT,
        http_client=watch(http_client or build_http_client(base_url)),
    )
    # The first request would look the platform up on a thread, for a telemetry header. An event loop on virtual time
    # waits for no thread, and nobody here needs the header.
    client._platform = "Unknown"  # noqa: SLF001 - there is no public way to set it
    return client


def awaited_its_key(error: BaseException) -> bool:
    """Tell whether a timeout ended a call that still waited for its key, so that nothing was sent."""
    cause = error.__cause__
    return isinstance(cause, asyncio.CancelledError) and cause.args == (_AWAITS_KEY,)


def _told(key: Key) -> Key:
    """Whatever goes wrong with the key is told apart from what goes wrong with a request."""

    async def read() -> str:
        try:
            found = await key()
        except asyncio.CancelledError as error:
            # Of this very class: only that one is made a TimeoutError where a timeout is at work (Python 3.11).
            raise asyncio.CancelledError(_AWAITS_KEY) from error
        except Busy as error:
            raise KeyStoreAway(f"the provider's key cannot be had now: {error}") from error
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


def build_http_client(base_url: str | None) -> httpx2.AsyncClient:
    """Return the SDK's client with our limits. It trusts what ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` names.

    A request to this machine never goes through a proxy of the environment. Raises ConfigError where
    a proxy or the certificates of the environment cannot be used.
    """
    host = urlsplit(base_url or "").hostname or ""
    try:
        if is_loopback(host):
            # A client that is given its transport leaves the environment's proxies alone.
            return DefaultAsyncHttpxClient(timeout=TIMEOUT, transport=httpx2.AsyncHTTPTransport(limits=LIMITS))
        _check_proxies()
        return DefaultAsyncHttpxClient(limits=LIMITS, timeout=TIMEOUT)
    except OSError as error:
        problem = error.strerror or str(error)
        raise ConfigError(
            f"the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({problem}): mend it or unset it"
        ) from None


def _check_proxies() -> None:
    """Raise ConfigError with the name of a variable at fault. Its value may hold a password and is not shown."""
    proxies = getproxies()
    if "*" in proxies.get("no", "").split(","):
        return
    for kind in ("http", "https", "all"):
        if (url := proxies.get(kind)) and (problem := _proxy_problem(url)):
            raise ConfigError(f"{kind.upper()}_PROXY {problem}")


def _proxy_problem(url: str) -> str | None:
    try:
        proxy = httpx2.Proxy(url if "://" in url else f"http://{url}").url
    except (ValueError, httpx2.InvalidURL):
        return _NO_PROXY
    if not proxy.host or "%" in proxy.host or not 0 < (proxy.port or 1) <= _HIGHEST_PORT:
        return _NO_PROXY
    if proxy.scheme.startswith("socks") and find_spec("socksio") is None:
        return "is a SOCKS proxy, which takes the package socksio: install it, or give an http:// proxy"
    return None
