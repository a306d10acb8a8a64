"""The provider's key, from Secrets Manager."""

from __future__ import annotations

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from lowtide.core.errors import ConfigError
from lowtide.core.outcomes import Response
from lowtide.ports import AnswerApi, Call, Clock, Presence

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

MAX_AGE = timedelta(seconds=300)
"""A rotated key is in use everywhere this long after (OPERATIONS, "Security")."""


class ProviderKeys:
    """Keys by provider. The secret is a JSON object ``{"openai": "…"}``, or one plain string for every provider.

    Read when first asked for, kept in memory for at most five minutes, never logged.
    """

    def __init__(self, client: SecretsManagerClient, arn: str, clock: Clock) -> None:
        self._client = client
        self._arn = arn
        self._clock = clock
        self._text: str | None = None
        self._read_at: datetime | None = None

    def key(self, provider: str) -> str:
        """Raises ConfigError where the secret cannot be read, or has no key for this provider."""
        now = self._clock.now()
        if self._text is None or self._read_at is None or now - self._read_at >= MAX_AGE:
            self._text = self._read()
            self._read_at = now
        return _key_in(self._text, provider, self._arn)

    def forget(self) -> None:
        """After a 401: the next ``key`` reads again."""
        self._text = None

    def _read(self) -> str:
        try:
            secret = self._client.get_secret_value(SecretId=self._arn)
        except ClientError as error:
            # The code says enough, and is what permissions, keys of KMS and empty secrets are told apart by.
            code = error.response["Error"]["Code"]
            raise ConfigError(
                f"secret {self._arn} cannot be read: {code}; it needs a value, and leave to read it"
            ) from error
        except BotoCoreError as error:
            raise ConfigError(f"secret {self._arn} cannot be read: {type(error).__name__}") from error
        text = secret.get("SecretString")
        if not text or not text.strip():
            raise ConfigError(f"secret {self._arn} holds no text: store the provider's key in it")
        return text


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
