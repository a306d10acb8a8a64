from __future__ import annotations

import asyncio
import json

import pytest
import time_machine
from aws_cases import NOW, Calls

from lowtide.adapters.aws.secrets import KeyWatch, ProviderKeys
from lowtide.adapters.clock import WallClock
from lowtide.core.errors import ConfigError
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
    return ProviderKeys(aws.secrets, arn, WallClock())


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
