from __future__ import annotations

import asyncio
import json

import pytest
import time_machine
from aws_cases import NOW, Calls
from botocore.exceptions import ClientError, EndpointConnectionError

from lowtide.adapters.aws.kept_text import in_place
from lowtide.adapters.aws.secrets import KeyWatch, ProviderKeys
from lowtide.adapters.clock import WallClock
from lowtide.core.errors import Busy, ConfigError
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import Response
from lowtide.core.task import Endpoint
from lowtide.ports import Call


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def keys_of(aws, text: str) -> ProviderKeys:
    arn = aws.secrets.create_secret(Name="provider", SecretString=text)["ARN"]
    return ProviderKeys(aws.secrets, arn, WallClock(), begin=in_place)


def test_a_plain_secret_is_every_providers_key(clock, aws):
    keys = keys_of(aws, "  sk-plain\n")
    assert keys.key("openai") == keys.key("other") == "sk-plain"


def test_a_json_secret_has_a_key_for_each_provider(clock, aws):
    keys = keys_of(aws, json.dumps({"openai": "sk-1", "groq": "gsk-2"}))
    assert (keys.key("openai"), keys.key("groq")) == ("sk-1", "gsk-2")
    with pytest.raises(ConfigError, match="'azure'"):
        keys.key("azure")


@pytest.mark.parametrize("broken", ['{"openai": ', '{"openai": ""}', '{"openai": 5}'])
def test_a_secret_without_a_usable_key_says_what_to_store_and_not_what_is_stored(clock, aws, broken):
    with pytest.raises(ConfigError, match="has no key for provider 'openai'"):
        keys_of(aws, broken).key("openai")


def test_a_secret_that_nobody_has_put_a_key_into_says_so(clock, aws):
    """As template.yaml creates it."""
    arn = aws.secrets.create_secret(Name="provider")["ARN"]
    with pytest.raises(ConfigError, match="ResourceNotFoundException"):
        ProviderKeys(aws.secrets, arn, WallClock(), begin=in_place).key("openai")


@pytest.mark.parametrize("content", [{"SecretBinary": b"sk-1"}, {"SecretString": " \n"}])
def test_a_secret_that_holds_no_text_is_no_key(clock, aws, content):
    arn = aws.secrets.create_secret(Name="provider", **content)["ARN"]
    with pytest.raises(ConfigError, match="holds no text") as told:
        ProviderKeys(aws.secrets, arn, WallClock(), begin=in_place).key("openai")
    assert "sk-1" not in str(told.value)


def test_a_secret_that_may_not_be_read_says_which_leave_is_missing_and_is_asked_again(clock, aws):
    aws.secrets.create_secret(Name="provider", SecretString="sk-1")
    refused = [False, True]

    class Guarded:
        def get_secret_value(self, **asked):
            if refused.pop():
                raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetSecretValue")
            return aws.secrets.get_secret_value(**asked)

    keys = ProviderKeys(Guarded(), "provider", WallClock(), begin=in_place)
    with pytest.raises(ConfigError, match="AccessDeniedException"):
        keys.key("openai")
    clock.shift(3)
    assert keys.key("openai") == "sk-1"


def test_a_secrets_manager_that_does_not_answer_is_told_as_such(clock):
    class Gone:
        def get_secret_value(self, **asked):
            raise EndpointConnectionError(endpoint_url="https://secretsmanager")

    with pytest.raises(Busy, match="EndpointConnectionError"):
        ProviderKeys(Gone(), "provider", WallClock(), begin=in_place).key("openai")


def test_a_key_is_kept_for_five_minutes_and_no_longer(clock, aws):
    keys = keys_of(aws, "old")
    calls = Calls(aws.secrets)
    assert calls.names == []
    keys.key("openai")
    aws.secrets.put_secret_value(SecretId="provider", SecretString="new")
    clock.shift(299)
    assert keys.key("openai") == "old"
    clock.shift(1)
    assert keys.key("openai") == "new"
    assert calls.names.count("GetSecretValue") == 2


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 400, Busy),
        ("InternalServiceError", 500, Busy),
        ("ServiceUnavailable", 503, Busy),
        ("AccessDeniedException", 400, ConfigError),
        ("DecryptionFailure", 400, ConfigError),
        ("InvalidRequestException", 400, ConfigError),
    ],
)
def test_what_passes_by_itself_is_told_apart_from_what_an_operator_has_to_mend(clock, code, status, kind):
    class Refusing:
        def get_secret_value(self, **asked):
            told = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(told, "GetSecretValue")

    with pytest.raises(kind, match=code):
        ProviderKeys(Refusing(), "provider", WallClock(), begin=in_place).key("openai")


def test_a_key_that_the_provider_refused_is_read_again(clock, aws):
    keys = keys_of(aws, "old")

    class Provider:
        async def answer(self, call: Call) -> Response:
            return Response(status=200 if keys.key("openai") == "new" else 401)

    watched = KeyWatch(Provider(), keys)
    call = Call(Endpoint.CHAT, {}, Lane.DEFAULT, "call-1", timeout_s=5)
    assert keys.key("openai") == "old"
    aws.secrets.put_secret_value(SecretId="provider", SecretString="new")
    assert asyncio.run(watched.answer(call)).status == 401
    assert asyncio.run(watched.answer(call)).status == 200
