"""The one place that builds clients of OpenAI-compatible providers, and the one that sends a request to them.

A request is sent once, over HTTP and nothing else: the provider's own SDK takes a second of each start and 40 MB, and
what it would add to the dozen plain requests of lowtide is undone or unused (ADR 38).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2
import orjson

from lowtide.adapters.library_logs import switch_off
from lowtide.core.errors import Busy, ConfigError, KeyStoreAway, KeyUnreadable, safely_told
from lowtide.core.loopback import is_loopback

from .guard import network_told, watch
from .headers import headers_of

Key = Callable[[], Awaitable[str]]
"""Gives the key of the moment: asked before every request, so that a rotated one needs no new client."""

OPENAI_URL = "https://api.openai.com/v1"
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
"""Goes to a server that asks for no key: some refuse a request without the header."""


class Client:
    """A provider's HTTP API: each request once, with the key of the moment and the headers that its users set.

    Whatever goes wrong with the network is an httpx2.HTTPError, and an answer with an error status is an answer. Where
    a key that is asked for cannot be had, a request raises KeyUnreadable or, if it may be had in a moment,
    KeyStoreAway, and nothing was sent. An address that leads elsewhere raises Redirected.
    """

    def __init__(self, base_url: str, key: Key, http_client: httpx2.AsyncClient) -> None:
        address, _, query = base_url.partition("?")
        self.base_url = httpx2.URL(address.rstrip("/"))
        self._query = httpx2.QueryParams(query)
        self._key = key
        self._http = http_client
        self._headers = headers_of(os.environ)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the HTTP client, its connections included."""
        await self._http.aclose()

    async def get(self, path: str) -> httpx2.Response:
        """``path`` begins behind the base URL, with a slash, and may have a query of its own."""
        return await self._send(await self._request("GET", path))

    async def delete(self, path: str) -> httpx2.Response:
        return await self._send(await self._request("DELETE", path))

    async def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        pauses: httpx2.Timeout | None = None,
    ) -> httpx2.Response:
        """Send ``body`` as JSON, or nothing where it is None. ``pauses`` replaces the client's limits of silence."""
        headers = {"Content-Type": "application/json", **(headers or {})}
        content = None if body is None else orjson.dumps(body)
        return await self._send(await self._request("POST", path, headers, pauses, content=content))

    async def upload(self, path: str, form: Mapping[str, str], name: str, lines: BinaryIO) -> httpx2.Response:
        """Send a file from its open handle: from bytes it would be in memory several times over."""
        files = {"file": (name, lines, "application/jsonl")}
        return await self._send(await self._request("POST", path, data=form, files=files))

    @asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, pauses: httpx2.Timeout | None = None
    ) -> AsyncIterator[httpx2.Response]:
        """Give the answer to a GET before its body is read."""
        response = await self._send(await self._request("GET", path, headers, pauses), stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def _send(self, request: httpx2.Request, *, stream: bool = False) -> httpx2.Response:
        with network_told():
            return await self._http.send(request, stream=stream)

    async def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        pauses: httpx2.Timeout | None = None,
        **content: Any,
    ) -> httpx2.Request:
        sent = httpx2.Headers({"Authorization": f"Bearer {await self._key()}"})
        sent.update(self._headers)
        sent.update(headers)
        url = self.base_url.copy_with(raw_path=self.base_url.raw_path.rstrip(b"/") + path.encode("ascii"))
        return self._http.build_request(
            method,
            url.copy_merge_params(self._query) if self._query else url,
            headers=sent,
            timeout=pauses or TIMEOUT,
            **content,
        )


def build_client(*, base_url: str | None, api_key: str | Key, http_client: httpx2.AsyncClient | None = None) -> Client:
    """Return a client of the provider at ``base_url``, which ends in ``/v1``; None is OpenAI's own.

    Its query, such as Azure's ``api-version``, goes with every request. ``http_client`` replaces the one that
    ``build_http_client`` makes (tests, a simulated provider in process, a caller that closes it). Raises ConfigError as
    that and ``headers_of`` do.
    """
    switch_off()
    key = _fixed(api_key or _NO_KEY) if isinstance(api_key, str) else _told(api_key)
    return Client(base_url or OPENAI_URL, key, watch(http_client or build_http_client(base_url)))


def awaited_its_key(error: BaseException) -> bool:
    """Tell whether a timeout ended a call that still waited for its key, so that nothing was sent."""
    cause = error.__cause__
    return isinstance(cause, asyncio.CancelledError) and cause.args == (_AWAITS_KEY,)


def _fixed(key: str) -> Key:
    async def read() -> str:
        return key

    return read


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


def is_openai(client: Client) -> bool:
    """Is it OpenAI itself, and not one that speaks its protocol? Some of those refuse fields they do not know."""
    return is_openai_url(str(client.base_url))


def is_openai_url(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "openai.com" or host.endswith(".openai.com")


def build_http_client(base_url: str | None) -> httpx2.AsyncClient:
    """Return an HTTP client with our limits. It trusts what ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` names.

    A request to this machine never goes through a proxy of the environment. Raises ConfigError where
    a proxy or the certificates of the environment cannot be used.
    """
    host = urlsplit(base_url or "").hostname or ""
    try:
        if is_loopback(host):
            # A client that is given its transport leaves the environment's proxies alone.
            transport = httpx2.AsyncHTTPTransport(limits=LIMITS)
            return httpx2.AsyncClient(timeout=TIMEOUT, follow_redirects=True, transport=transport)
        _check_proxies()
        return httpx2.AsyncClient(limits=LIMITS, timeout=TIMEOUT, follow_redirects=True)
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
