"""The endpoint that a run works against: where it is, with which key, and what it can do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit
from urllib.request import getproxies

from lowtide.adapters.openai.client import OPENAI_URL
from lowtide.adapters.openai.headers import headers_of, is_header
from lowtide.core.errors import ConfigError, ProviderRefused, Unreachable, Unsendable
from lowtide.core.loopback import is_loopback
from lowtide.ports import BatchApi
from lowtide_local.cli.stop import Stop, usage

from .base_url import BaseUrl

TRYING_S = 5.0
"""How long a refused connection is tried again before the command fails."""

BETWEEN_TRIES_S = 0.25


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a run's requests go, and the key that they carry.

    ``base_url`` may be shown and kept. ``query`` goes with every request and may hold a secret. ``note`` says what was
    made of the URL that was given. ``prices``: whose its answers are charged at, or the file of a table; None where
    nothing was said.
    """

    base_url: str
    api_key: str
    query: str = ""
    note: str | None = None
    prices: str | None = None

    @property
    def address(self) -> str:
        """The base URL with its query. Never shown."""
        return f"{self.base_url}?{self.query}" if self.query else self.base_url

    @property
    def local(self) -> bool:
        return is_loopback(urlsplit(self.base_url).hostname or "")

    @classmethod
    def of(
        cls, base_url: str | None, environment: Mapping[str, str] = os.environ, *, prices: str | None = None
    ) -> Endpoint:
        """Raises Stop where the URL is none, where a key is needed and there is none, and where the environment holds
        what no header can carry."""
        if base_url is not None:
            at = BaseUrl.of(base_url, "--base-url")
        else:
            at = BaseUrl.of(environment.get("OPENAI_BASE_URL", "").strip() or OPENAI_URL, "OPENAI_BASE_URL")
        made = cls(at.url, environment.get("OPENAI_API_KEY", "").strip(), at.query, at.note, prices)
        if not is_header(made.api_key):
            raise usage("OPENAI_API_KEY is no key: it holds characters that no header can carry; copy it again")
        if not made.api_key and not made.local:
            raise usage(f"no key for {made.base_url}: set OPENAI_API_KEY")
        try:
            headers_of(environment)
        except ConfigError as error:
            raise usage(str(error)) from None
        return made


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
            problem = f"cannot reach {endpoint.base_url}: {error}{_proxy_hint(endpoint)}"
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


def _proxy_hint(endpoint: Endpoint) -> str:
    """Name the proxy in force, because a browser may reach the same address without it."""
    proxies, scheme = getproxies(), urlsplit(endpoint.base_url).scheme
    names = [f"{kind.upper()}_PROXY" for kind in (scheme, "all") if proxies.get(kind)]
    return "" if endpoint.local or not names else f" ({' and '.join(names)} is set: does the proxy work?)"
