"""A provider that repeats what it should not: the key and the prompt, in every place where a refusal has room for them.

It stands before the simulated one, as an ASGI application. ``[echo:KIND]`` in a prompt says how that task is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import uvicorn
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lowtide_local.simulator.testing import running

KEY = "sk-proj-C4naryC4naryC4nary-0123456789"
STARRED = "sk-proj-C4****************6789"
OTHERS = (
    "0123456789abcdef0123456789abcdef",
    "gsk_C4naryC4naryC4naryC4nary",
    "AKIAC4NARYC4NARYC4NA",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjNG5hcnkifQ.c4narysignature",
    "c4nary-password",
)
SECRET = "the patient C4nary Jones has had a cough since Tuesday"
SECRETS = (KEY, STARRED, *OTHERS, SECRET)


def said(key: str, prompt: str) -> str:
    """A sentence that repeats everything."""
    return (
        f"Invalid request, with the key {key}. You sent: '{prompt}'. Headers were Authorization: Bearer {key}, "
        f"api-key: {OTHERS[0]}; it was shown as {STARRED}, beside {OTHERS[1]} and {OTHERS[2]}; token {OTHERS[3]}; "
        f"by way of http://user:{OTHERS[4]}@proxy.corp:3128/."
    )


def _error(key: str, prompt: str, code: object = "invalid_prompt") -> dict[str, Any]:
    text = said(key, prompt)
    return {"error": {"message": text, "type": "invalid_request_error", "param": text, "code": code, "key": key}}


def _call(kind: str, key: str, prompt: str, body: object) -> Response:
    text = said(key, prompt)
    match kind:
        case "400":
            return JSONResponse(_error(key, prompt), 400)
        case "code":
            return JSONResponse(_error(key, prompt, code=f"{key} {prompt}"), 400)
        case "header":
            return JSONResponse(_error(key, prompt), 400, headers={"x-request-id": key, "retry-after": "0"})
        case "422":
            fault = {"loc": ["body"], "msg": text, "input": body, "headers": {"authorization": f"Bearer {key}"}}
            return JSONResponse({"detail": [fault]}, 422)
        case "html":
            return HTMLResponse(f"<html><body><pre>{text}</pre></body></html>", 400)
        case "text":
            return PlainTextResponse(text, 404)
        case "list":
            return JSONResponse([text, {"key": key}], 400)
        case "word":
            return JSONResponse({"error": text}, 400)
        case "500":
            return JSONResponse(_error(key, prompt), 500)
        case "garbage":
            return PlainTextResponse(text, 200)
        case "failed":
            return JSONResponse({"status": "failed", **_error(key, prompt)}, 200)
        case "401":
            return JSONResponse(_error(key, prompt, code="invalid_api_key"), 401)
        case _:
            raise AssertionError(kind)


GOOD = "good"
CALLS = ("400", "code", "header", "422", "html", "text", "list", "word", "500", "garbage", "failed")
LINES = ("line-400", "line-error", "line-text", "line-200")


def _line(kind: str, custom_id: str, key: str, prompt: str) -> bytes:
    text, error = said(key, prompt), _error(key, prompt)
    line: dict[str, Any] = {"id": "r", "custom_id": custom_id, "response": None, "error": None}
    match kind:
        case "line-400":
            line["response"] = {"status_code": 400, "request_id": key, "body": error}
        case "line-error":
            line["error"] = {"code": "invalid_prompt", "message": text}
        case "line-text":
            line["response"] = {"status_code": 400, "request_id": "r", "body": json.dumps(error)}
        case "line-200":
            line["response"] = {"status_code": 200, "request_id": "r", "body": {"status": "failed", **error}}
        case _:
            raise AssertionError(kind)
    return orjson.dumps(line)


class Echoing:
    """``echoes``: how many refusals repeated something. ``refuses_batches``: every creation is one of them.
    ``doubted_first``: a good call is put off until that kind was refused, as often as not by words that leave open
    whose fault it is: only a call that is answered later shows that it was not the account's."""

    def __init__(self, app: ASGIApp, *, doubted_first: str | None = None) -> None:
        self._app = app
        self._awaited = doubted_first
        self.refuses_batches = False
        self._prompts: dict[str, str] = {}
        self.echoes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        content = await request.body()
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        self._note(content)
        response = self._refusal(request, content, key)
        if response is not None:
            self.echoes += 1
            await response(scope, receive, send)
            return
        await self._app(
            scope, _again(content), self._echoing(send, key) if scope["path"].endswith("/content") else send
        )

    def _refusal(self, request: Request, content: bytes, key: str) -> Response | None:
        if request.method != "POST":
            return None
        if request.url.path.endswith("/batches") and self.refuses_batches:
            return JSONResponse(_error(key, next(iter(self._prompts.values())), code="invalid_request"), 400)
        if request.url.path.endswith(("/completions", "/responses")):
            body = orjson.loads(content)
            prompt = _prompt(body)
            kind = _kind(prompt)
            if kind == self._awaited:
                self._awaited = None
            if kind == GOOD and self._awaited is not None:
                return JSONResponse(_error(key, prompt, code="rate_limit_exceeded"), 429, headers={"retry-after": "1"})
            return _call(kind, key, prompt, body) if kind in (*CALLS, "401") else None
        return None

    def _note(self, content: bytes) -> None:
        """What the lines of an uploaded file ask."""
        for line in content.splitlines():
            if line.startswith(b'{"custom_id"'):
                asked = orjson.loads(line)
                self._prompts[asked["custom_id"]] = _prompt(asked["body"])

    def _echoing(self, send: Send, key: str) -> Send:
        kept: dict[str, Any] = {}

        async def echoed(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept["start"] = message
                return
            lines = [self._echoed(line, key) for line in message["body"].splitlines()]
            body = b"".join(line + b"\n" for line in lines)
            headers = [pair for pair in kept["start"]["headers"] if pair[0] not in (b"content-length", b"etag")]
            await send({**kept["start"], "headers": [*headers, (b"content-length", str(len(body)).encode())]})
            await send({**message, "body": body})

        return echoed

    def _echoed(self, line: bytes, key: str) -> bytes:
        custom_id = orjson.loads(line)["custom_id"]
        prompt = self._prompts[custom_id]
        if (kind := _kind(prompt)) not in LINES:
            return line
        self.echoes += 1
        return _line(kind, custom_id, key, prompt)


def _prompt(body: dict[str, Any]) -> str:
    return str(body["input"] if "input" in body else body["messages"][-1]["content"])


def _kind(prompt: str) -> str:
    return prompt.partition("[echo:")[2].partition("]")[0]


def _again(content: bytes) -> Receive:
    """The body, once more for the application behind."""

    async def receive() -> Any:
        return {"type": "http.request", "body": content, "more_body": False}

    return receive


@contextmanager
def on_a_socket(app: ASGIApp) -> Iterator[str]:
    """The application on a free port of this machine, served from a thread; its base URL."""
    config = uvicorn.Config(app, log_config=None, log_level="critical", access_log=False, lifespan="off")
    with running(uvicorn.Server(config)) as base_url:
        yield base_url
