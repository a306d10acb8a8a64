"""The provider's key, from Secrets Manager."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lowtide.core.errors import Busy, ConfigError
from lowtide.core.outcomes import Response
from lowtide.ports import AnswerApi, Call, Clock, Presence

from .kept_text import Begin, KeptText, Reading, on_its_own_thread

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

READ = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})
"""A read ends within seven seconds, in whatever way. Callers wait for less (kept_text.WAIT)."""
_FOR_A_WHILE = frozenset({"InternalServiceError", "InternalServiceErrorException", "RequestTimeout", "SlowDown"})
"""Codes of a Secrets Manager that may answer in a moment, beside all of throttling and of a server error. Nobody has
to act then."""


class ProviderKeys:
    """Keys by provider. The secret is a JSON object ``{"openai": "…"}``, or one plain string for every provider.

    It is read when first asked for, and again after five minutes, while the one at hand is used. Never logged.
    """

    def __init__(
        self,
        client: SecretsManagerClient,
        arn: str,
        clock: Clock,
        *,
        newest: bool = False,
        begin: Begin = on_its_own_thread,
    ) -> None:
        """``newest``: ``key`` waits for a key rather than return one that is no longer fresh."""
        self._client = client
        self._arn = arn
        self._newest = newest
        self._kept = KeptText(self._read, clock, begin)

    def key(self, provider: str) -> str:
        """Return the key at hand. Wait for a read, for seconds, if there is none.

        Raises ConfigError where an operator has to act, and Busy where Secrets Manager does not answer.
        """
        found = self._kept.ask(newest=self._newest)
        if isinstance(found, Reading):
            with suppress(TimeoutError):
                found.ended.result(found.left_s)
            found = self._kept.at_hand()
        return _key_in(found, provider, self._arn)

    async def key_in_time(self, provider: str) -> str:
        """``key``, for an event loop that must not stand still."""
        found = self._kept.ask()
        if isinstance(found, Reading):
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(found.ended), found.left_s)
            found = self._kept.at_hand()
        return _key_in(found, provider, self._arn)

    def forget(self) -> None:
        """After a 401: the next ``key`` reads again, once in some seconds."""
        self._kept.doubt()

    def _read(self) -> str:
        try:
            secret = self._client.get_secret_value(SecretId=self._arn)
        except ClientError as error:
            # The code says enough, and is what permissions, keys of KMS and empty secrets are told apart by.
            code = error.response["Error"]["Code"]
            if _may_pass(error, code):
                raise Busy(f"secret {self._arn} cannot be read now: {code}") from error
            raise ConfigError(
                f"secret {self._arn} cannot be read: {code}; it needs a value, and leave to read it"
            ) from error
        except BotoCoreError as error:
            raise Busy(f"secret {self._arn} cannot be read now: {type(error).__name__}") from error
        text = secret.get("SecretString")
        if not text or not text.strip():
            raise ConfigError(f"secret {self._arn} holds no text: store the provider's key in it")
        return text


def _may_pass(error: ClientError, code: str) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or "Throttl" in code or code in _FOR_A_WHILE


def _key_in(text: str, provider: str, arn: str) -> str:
    if not text.lstrip().startswith("{"):
        return text.strip()
    try:
        keys = orjson.loads(text)
    except orjson.JSONDecodeError:
        keys = {}
    key = keys.get(provider)
    if not isinstance(key, str) or not key:
        raise ConfigError(f'secret {arn} has no key for provider {provider!r}: store {{"{provider}": "<key>"}} in it')
    return key


class KeyWatch:
    """An AnswerApi around another: where the provider refuses the key, the next call reads it again."""

    def __init__(self, answers: AnswerApi, keys: ProviderKeys) -> None:
        self._answers = answers
        self._keys = keys

    async def answer(self, call: Call) -> Response:
        response = await self._answers.answer(call)
        if response.status == HTTPStatus.UNAUTHORIZED:
            self._keys.forget()
        return response

    async def presence(self) -> Presence:
        return await self._answers.presence()
