"""One HTTP exchange as plain values: headers, JSON, and failures by their kind."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx2
import orjson

from lowtide.core.errors import ProviderRefused, Unreachable
from lowtide.core.masking import SHORTEST, masked, masked_in
from lowtide.core.model import LONGEST_S
from lowtide.core.outcomes import Headroom
from lowtide.core.provider_errors import error_of
from lowtide.core.provider_words import code_text, message_text
from lowtide.core.rates import believed

from .guard import CUT
from .headers import holds_key

_QUOTED = re.compile(r"[\"'`]|bytearray|\bb(?=['\"])|[\r\n]")
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
_TEXT_KEPT = 2_000
"""Characters of a body that is no JSON: enough to see what it is."""
_REQUEST_ID_CHARACTERS = 200
"""The provider's are 36 or 40 long."""
_NO_SEGMENTS = frozenset({"", ".", ".."})
_TEXT_READ = 16_000
"""Bytes of it that are looked through for keys, so that none is cut in two."""


async def exchange(sending: Awaitable[httpx2.Response]) -> Any:
    """Return the JSON of the answer to a request. Raises Unreachable or ProviderRefused."""
    try:
        response = await sending
    except httpx2.HTTPError as error:
        raise unreachable(error) from None
    if not response.is_success:
        raise refusal(response)
    return json_body(response)


def path_of(kind: str, id_: str) -> str:
    """Return the path of a thing whose id is one segment of it, whatever a server puts into it. Raises Unreachable for
    an id that is none."""
    if id_ in _NO_SEGMENTS:
        raise Unreachable(f"the provider gave the id {id_} to one of its {kind}, which no address can hold")
    return f"/{kind}/{quote(id_, safe='')}"


def json_body(response: httpx2.Response) -> Any:
    """The parsed body; the beginning of its text where it is no JSON; None where it is empty.

    Keys are masked in what is no answer, and the key that the request was sent with wherever it is.
    """
    keys = keys_of(response.request)
    content = response.content
    if CUT in response.extensions:
        return f"(a reply of more than {response.extensions[CUT]} bytes, which was not read to its end)"
    if not content:
        return None
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return masked(content[:_TEXT_READ].decode("utf-8", errors="replace"), keys)[:_TEXT_KEPT]
    if response.is_success and not any(key.encode() in content for key in keys):
        return body
    return masked_in(body, keys)


def keys_of(request: httpx2.Request) -> tuple[str, ...]:
    """The key that a request was sent with, to be looked for in what comes back."""
    sent = (value.rpartition(" ")[2] for name, value in request.headers.items() if holds_key(name))
    return tuple(key for key in sent if len(key) >= SHORTEST)


def request_id(response: httpx2.Response) -> str | None:
    """What the provider calls the request. A header may hold anything, so it is cut, and keys in it are masked."""
    named = response.headers.get("x-request-id")
    return None if named is None else masked(named[:_REQUEST_ID_CHARACTERS], keys_of(response.request))


def retry_after_s(headers: httpx2.Headers) -> float | None:
    """Seconds to wait, from ``retry-after-ms``, or ``Retry-After`` in seconds or as a date; None where not given. No
    more than ten years, which any calendar holds."""
    asked_s = _retry_after_s(headers)
    return None if asked_s is None else min(asked_s, LONGEST_S)


def _retry_after_s(headers: httpx2.Headers) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    until = _date(text)
    if until is None:
        return None
    # Against the server's own clock where it tells it: ours may differ.
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def headroom(headers: httpx2.Headers) -> Headroom | None:
    """A minute's limits, from ``x-ratelimit-limit-*``; None where nothing is said. Azure says 0 and -1 for not known.
    What is no limit of a minute is not said either (``core/rates.py``).

    What is left, and when all of it will be back, are said too. They are no help: what is left is stale by all the
    calls that are under way, and nobody says how much is held for how long. Source: the provider's guide to limits.
    """
    told = Headroom(
        requests_limit=believed(_number(headers.get("x-ratelimit-limit-requests"))),
        tokens_limit=believed(_number(headers.get("x-ratelimit-limit-tokens"))),
    )
    return None if told == Headroom() else told


def was_sent(error: BaseException) -> bool:
    """False where the request certainly never left, so that nothing can have been billed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _NEVER_SENT):
            return False
        cause = cause.__cause__
    return True


def refusal(response: httpx2.Response) -> ProviderRefused:
    """Return an error status with what its body says of it, whatever shape the server gives its errors."""
    status = response.status_code
    told = error_of(status, json_body(response))
    code = told.code or told.type
    return ProviderRefused(
        status,
        None if code is None else code_text(code),
        message_text(f"HTTP {status}: {told.message or response.reason_phrase}"),
        error=told,
        retry_after_s=retry_after_s(response.headers),
    )


def unreachable(error: httpx2.HTTPError) -> Unreachable:
    """Return what the network said, up to its first quotation: from there on it may be what a server sent."""
    told = _QUOTED.split(masked(str(error)), maxsplit=1)[0].strip()
    return Unreachable(f"the provider gave no answer: {type(error).__name__} {told}".rstrip())


def _number(text: str | None) -> float | None:
    """Not below zero; None for what is no finite number."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return max(0.0, value) if value - value == 0 else None


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year of twenty digits
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
