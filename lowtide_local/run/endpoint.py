"""The endpoint that a run works against: where it is, with which key, and what it can do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

from lowtide.core.errors import ProviderRefused, Unreachable, Unsendable
from lowtide.ports import BatchApi
from lowtide_local.cli.stop import Stop, usage

OPENAI_URL = "https://api.openai.com/v1"

TRYING_S = 5.0
"""How long a refused connection is tried again before the command fails."""

BETWEEN_TRIES_S = 0.25


@dataclass(frozen=True, slots=True)
class Endpoint:
    base_url: str
    api_key: str

    @classmethod
    def of(cls, base_url: str | None, environment: Mapping[str, str] = os.environ) -> Endpoint:
        """Raises Stop where the URL is none, or where a key is needed and there is none."""
        url = (base_url or environment.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
        if "@" in url:
            raise usage("--base-url holds a user or a password; give the key in OPENAI_API_KEY and a URL without them")
        host = _host(url)
        if host is None:
            raise usage(f"--base-url {url} is no http(s) URL; give one such as {OPENAI_URL}")
        key = environment.get("OPENAI_API_KEY", "").strip()
        if not (key.isascii() and (key.isprintable() or not key)):
            raise usage("OPENAI_API_KEY is no key: it holds characters that no header can carry; copy it again")
        if not key and not is_loopback(host):
            raise usage(f"no key for {url}: set OPENAI_API_KEY")
        return cls(base_url=url, api_key=key)


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def has_batches(api: BatchApi, endpoint: Endpoint, *, wanted: bool) -> bool:
    """Raises Stop where nothing answers for five seconds, or where the key is refused.

    Where batches are not ``wanted``, any other answer is good enough: something is there.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + TRYING_S
    while True:
        try:
            return await api.supported()
        except Unsendable as error:
            raise Stop(str(error)) from None
        except Unreachable as error:
            problem = f"cannot reach {endpoint.base_url}: {error}"
        except ProviderRefused as refusal:
            if refusal.status == HTTPStatus.UNAUTHORIZED:
                raise Stop(f"{endpoint.base_url} refuses the key ({refusal.message}): set OPENAI_API_KEY") from None
            if not wanted:
                return False
            problem = f"{endpoint.base_url} does not say whether it has a Batch API: {refusal.message}"
            if refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise Stop(f"{problem}; give --no-batch to do without") from None
        if loop.time() + BETWEEN_TRIES_S >= give_up:
            raise Stop(f"{problem} (tried for {TRYING_S:.0f} s)") from None
        await asyncio.sleep(BETWEEN_TRIES_S)
