"""A provider whose webhooks come to the deployed function's URL, in the events that the URL makes of them."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx2
from stack_cases import Stage

from lowtide.adapters.clock import WallClock
from lowtide.core.batches import BatchRow
from lowtide_local.simulator import webhooks as simulated
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.scenario import BatchWeather, Scenario, Webhook
from lowtide_local.stack.containers import Invocation

URL = "http://abcdefgh.lambda-url.eu-central-1.on.aws/"
SECRET = "whsec_" + b64encode(b"what the provider signs with....").decode()
FORGERS = "whsec_" + b64encode(b"what somebody else signs with...").decode()
TEN_MINUTES = BatchWeather(min_s=600, max_s=600)


def telling(*, twice: bool = False, batch: BatchWeather = TEN_MINUTES) -> Scenario:
    return Scenario(batch=batch, webhook=Webhook(url=URL, secret=SECRET, twice=twice))


def url_event(
    headers: Mapping[str, str], body: bytes, *, as_base64: bool = False, method: str = "POST"
) -> dict[str, Any]:
    """Payload format 2.0, as the Lambda developer guide has it ("Invoking Lambda function URLs")."""
    text = b64encode(body).decode() if as_base64 else body.decode()
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {name.lower(): value for name, value in headers.items()},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abcdefgh",
            "domainName": "abcdefgh.lambda-url.eu-central-1.on.aws",
            "domainPrefix": "abcdefgh",
            "http": {
                "method": method,
                "path": "/",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.7",
                "userAgent": "OpenAI-Webhooks/1.0",
            },
            "requestId": "e1506fd5-9e7b-434f-bd42-4f8fa224b599",
            "routeKey": "$default",
            "stage": "$default",
            "time": "02/Mar/2026:10:00:00 +0000",
            "timeEpoch": 1_772_445_600_000,
        },
        **({"body": text} if body else {}),
        "isBase64Encoded": as_base64,
    }


def signed(body: bytes, *, at: float, event_id: str = "wh_1", secret: str = SECRET) -> dict[str, str]:
    timestamp = str(int(at))
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": simulated.signature(secret, event_id, timestamp, body),
    }


@dataclass
class Post(httpx2.AsyncBaseTransport):
    """The way from the provider to the URL. ``statuses`` are the answers; ``down`` for as long as nobody is there."""

    played: Stage
    as_base64: bool = False
    down: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # In the middle of another invocation no second can be waited for; the provider tries again.
        if self.down or Invocation.here() is not None:
            raise httpx2.ConnectError("nobody there")
        event = url_event(dict(request.headers), await request.aread(), as_base64=self.as_base64)
        answer = self.played.stack.invoke("Webhook", event)
        self.events.append(event)
        self.statuses.append(answer["statusCode"])
        return httpx2.Response(answer["statusCode"])

    def deliver(self) -> None:
        """What the provider has to tell by now."""
        provider = self.played.line.provider
        provider.progress()

        async def post() -> None:
            async with httpx2.AsyncClient(transport=self) as client:
                await provider.postman.deliver(client, WallClock().now)

        asyncio.run(post())


def connected(played: Stage, *, as_base64: bool = False) -> Post:
    """From now on what the provider has to tell comes to the stack's own function."""
    post = Post(played, as_base64=as_base64)
    provider = played.line.provider
    told = build_app(provider, webhook_client=httpx2.AsyncClient(transport=post))
    played.line._app = httpx2.ASGITransport(app=told)
    return post


def signing_secret() -> str:
    """The ARN of a secret with the signing key, in the account that is being mocked."""
    client = boto3.client("secretsmanager", region_name="eu-central-1")
    return client.create_secret(Name="webhooks", SecretString=SECRET)["ARN"]


def running(played: Stage) -> BatchRow:
    [row] = played.stack.view().batches.scan()
    assert row.provider_batch is not None
    return row
