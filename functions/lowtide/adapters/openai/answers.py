"""Real-time calls: one HTTP request each, and every failure is a value."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import httpx2

from lowtide.core.errors import KeyStoreAway, KeyUnreadable, Redirected
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import KEY_STORE_AWAY, KEY_UNREADABLE, REDIRECTED, Response
from lowtide.core.task import Endpoint
from lowtide.ports import Call, Presence

from .client import CONNECT_TIMEOUT_S, Client, awaited_its_key
from .wire import headroom, json_body, request_id, retry_after_s, was_sent

_UNWELCOME = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})
PRESENT_TIMEOUT_S = 3.0
"""Shorter than the margin between the end of a call and the end of its claim: the question is asked in that margin."""
_TIER_OF = {Lane.DEFAULT: "default", Lane.FLEX: "flex", Lane.PRIORITY: "priority"}


class OpenAIAnswers:
    """A ports.AnswerApi.

    The lane goes into the body as ``service_tier``, in place of any that is there. Embeddings know none, so they get
    none. Compatible servers may refuse a field that they do not know, so ``default`` is left out, unless
    ``sends_default_tier``: at OpenAI it makes the price certain, where a project's own setting says otherwise.
    """

    def __init__(self, client: Client, *, sends_default_tier: bool = False) -> None:
        self._client = client
        self._sends_default_tier = sends_default_tier

    async def answer(self, call: Call) -> Response:
        try:
            async with asyncio.timeout(call.timeout_s):
                return _response(await self._post(call))
        except KeyUnreadable as error:
            return Response(None, body=str(error), fault=KEY_UNREADABLE, sent=False)
        except KeyStoreAway as error:
            return Response(None, body=str(error), fault=KEY_STORE_AWAY, sent=False)
        except Redirected as error:
            return Response(None, body=str(error), fault=REDIRECTED, sent=False)
        except (TimeoutError, httpx2.TimeoutException) as error:
            if awaited_its_key(error):
                why = "the call's time was over before its key came"
                return Response(None, body=why, fault=KEY_STORE_AWAY, sent=False)
            return Response(None, fault="timeout", sent=was_sent(error))
        except Exception as error:  # noqa: BLE001 - the port's promise: only cancellation raises
            return Response(None, fault="connection", sent=was_sent(error))

    async def presence(self) -> Presence:
        """Send ``GET /models``. The list itself is not read."""
        try:
            async with (
                asyncio.timeout(PRESENT_TIMEOUT_S),
                self._client.stream("/models", pauses=_timeout(PRESENT_TIMEOUT_S)) as response,
            ):
                status = response.status_code
        except (KeyUnreadable, KeyStoreAway):
            return Presence.THERE
        except TimeoutError as error:
            return Presence.THERE if awaited_its_key(error) else Presence.ABSENT
        except Exception:  # noqa: BLE001 - the port's promise: only cancellation raises
            return Presence.ABSENT
        if status in _UNWELCOME:
            return Presence.UNWELCOME
        return Presence.ABSENT if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Presence.THERE

    async def _post(self, call: Call) -> httpx2.Response:
        headers = {"X-Client-Request-Id": call.call_id}
        if call.traceparent is not None:
            headers["traceparent"] = call.traceparent
        path = call.endpoint.value.removeprefix("/v1")
        return await self._client.post(path, self._body(call), headers=headers, pauses=_timeout(call.timeout_s))

    def _body(self, call: Call) -> dict[str, object]:
        body = {name: value for name, value in call.body.items() if name != "service_tier"}
        named = call.lane is not Lane.DEFAULT or self._sends_default_tier
        if named and call.endpoint is not Endpoint.EMBEDDINGS:
            body["service_tier"] = _TIER_OF[call.lane]
        return body


def _timeout(seconds: float) -> httpx2.Timeout:
    """Connecting is short: that it failed there is known for certain, and costs no attempt."""
    return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT_S))


def _response(response: httpx2.Response) -> Response:
    return Response(
        response.status_code,
        body=json_body(response),
        request_id=request_id(response),
        retry_after_s=retry_after_s(response.headers),
        headroom=headroom(response.headers),
    )
