"""What every reply has to pass: it comes from where the request went, and its body has an end.

The key and the prompt go to the origin that was configured, and nowhere else. A redirect within it is followed, as
OpenAI's SDK does; one that leads away is refused. A body is counted as it is unpacked, so that a small one cannot fill
memory or disk.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager

import httpx2

from lowtide.core.errors import Redirected
from lowtide.core.masking import masked

MOST_REPLY = 256 << 20
"""Bytes of a reply. The largest that is known are 2,048 embeddings as decimal numbers: 140 MB."""
MOST_REFUSAL = 1 << 20
"""Bytes of a reply with an error status. A sentence of it is kept."""
MOST_FILE = 8 << 30
"""Bytes of a file of results. 50,000 embeddings as decimal numbers are 3.4 GB."""
MOST_RATIO = 100
"""Times that a body may grow when it is unpacked. JSON of answers shrinks to a tenth, seldom to a fortieth."""
UNMEASURED = 8 << 20
"""Bytes up to which a body may grow as it likes."""
MOST_HOPS = 5
"""Redirects after each other, of a request that may be repeated."""
CUT = "lowtide_cut"
"""The extension of a response that marks a body which was not read to its end."""
_HOPS = "lowtide_hops"


class TooMuch(httpx2.TransportError):
    """A file that is longer than any can be. Nothing of it is used."""


def watch(client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """The same client, whose replies are held to this from now on. Idempotent."""
    hooks = client.event_hooks
    if _guard not in hooks["response"]:
        client.event_hooks = {**hooks, "response": [*hooks["response"], _guard]}
    return client


@contextmanager
def network_told() -> Iterator[None]:
    """Make an httpx2.HTTPError of what its transport lets through: a record of TLS that was garbled on the way. A fault
    of a disk, from whose file an upload is read, stays what it is."""
    try:
        yield
    except ssl.SSLError as error:
        raise httpx2.ReadError(f"TLS: {error.strerror or error}") from error


async def _guard(response: httpx2.Response) -> None:
    """Before the body is read, and before a redirect is followed. Raises Redirected."""
    if response.has_redirect_location:
        _check_redirect(response)
    read = response.aiter_bytes
    is_file = response.is_success and response.request.url.path.endswith("/content")

    def bounded(chunk_size: int | None = None) -> AsyncGenerator[bytes]:
        return _bounded(response, read(chunk_size), fails=is_file)

    vars(response)["aiter_bytes"] = bounded  # httpx2 reads every body by it, and has no bound of its own


async def _bounded(response: httpx2.Response, chunks: AsyncIterator[bytes], *, fails: bool) -> AsyncGenerator[bytes]:
    """Where it is too much, a file raises TooMuch, and of any other body the rest is left where it is."""
    got, most = 0, MOST_FILE if fails else MOST_REPLY if response.is_success else MOST_REFUSAL
    packed = response.headers.get("content-encoding", "identity")
    with network_told():
        async for chunk in chunks:
            got += len(chunk)
            unpacks = packed != "identity" and got > max(UNMEASURED, response.num_bytes_downloaded * MOST_RATIO)
            if got > most or unpacks or "," in packed:  # nobody packs a body twice who means it to be read
                await response.aclose()
                if fails:
                    raise TooMuch(f"more than {got >> 20} MiB out of {response.num_bytes_downloaded} bytes")
                response.extensions[CUT] = got
                return
            yield chunk


def _check_redirect(response: httpx2.Response) -> None:
    request = response.request
    here, there = request.url, request.url.join(response.headers["location"])
    if _origin(there) != _origin(here):
        raise Redirected(
            f"{_told(here)} redirects to {_told(there)}. Neither the key nor a prompt goes to another address than was "
            f"given: if that one is meant, give {_told(there)} as the base URL"
        )
    hops = request.extensions[_HOPS] = request.extensions.get(_HOPS, 0) + 1
    repeats = request.method in ("GET", "HEAD")
    if not repeats and (hops > 1 or response.status_code not in _KEEPS_METHOD):
        raise Redirected(
            f"{_told(here)} redirects {request.method} {masked(here.path)} with HTTP {response.status_code}. Followed, "
            "it would be lost or sent again and again: give a base URL that answers by itself"
        )
    if hops > MOST_HOPS:
        raise Redirected(f"{_told(here)} redirects more than {MOST_HOPS} times: give a base URL that answers by itself")


_KEEPS_METHOD = frozenset({307, 308})
"""Redirects that keep a POST. The others make a GET of it, and leave its body behind."""
_PORTS = {"http": 80, "https": 443}


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme)


def _told(url: httpx2.URL) -> str:
    """The origin, without a user, a path or a query."""
    port = "" if url.port is None else f":{url.port}"
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}{port}"
