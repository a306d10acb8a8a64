"""HTTP in front of the simulated provider: an ASGI application for a socket or for ``httpx2.ASGITransport``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx2
import orjson
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .downloads import Break
from .endpoints import Endpoint
from .fates import Manner
from .provider import SimulatedProvider
from .refusals import ApiError, invalid

_TICK_S = 0.25
_BYTES = "application/octet-stream"
_LONGEST_PAGE = {"files": 10_000, "batches": 100}
_DEFAULT_PAGE = {"files": 10_000, "batches": 20}

Handler = Callable[[Request], Awaitable[Response]]


class Interrupted(Response):
    """Half a body under the length of the whole one, and then the connection breaks.

    The error is the client's own, because in process it reaches the client as it is; on a socket the server closes
    the connection, which is what the client then reports.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        raise httpx2.RemoteProtocolError("the simulated provider broke the connection")


class Shortened(Response):
    """Half a body under the length of the whole one: on a socket the server closes the connection over it. In process
    the client has that half, where it would have nothing of what is ``Interrupted``."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": False})


class _InMemoryParser(MultiPartParser):
    """Never rolls over to a file on disk, which Starlette writes on a thread: a virtual clock waits for no thread."""

    spool_max_size = 1 << 40


def build_app(provider: SimulatedProvider, *, webhook_client: httpx2.AsyncClient | None = None) -> Starlette:
    """``webhook_client`` posts the webhooks; by default a client of its own, used only where the scenario has one."""
    return _App(provider, webhook_client).starlette()


class _App:
    def __init__(self, provider: SimulatedProvider, webhook_client: httpx2.AsyncClient | None) -> None:
        self._provider = provider
        self._webhook_client = webhook_client

    def starlette(self) -> Starlette:
        routes = [
            self._route("/v1/files", self._list_files, "GET"),
            self._route("/v1/files", self._upload, "POST"),
            self._route("/v1/files/{id}", self._file, "GET"),
            self._route("/v1/files/{id}", self._delete_file, "DELETE"),
            self._route("/v1/files/{id}/content", self._download, "GET"),
            self._route("/v1/batches", self._list_batches, "GET"),
            self._route("/v1/batches", self._create_batch, "POST", spends=True),
            self._route("/v1/batches/{id}", self._batch, "GET"),
            self._route("/v1/batches/{id}/cancel", self._cancel, "POST"),
            self._route("/v1/models", self._models, "GET"),
            self._route("/v1/models/{id:path}", self._model, "GET"),
            *(self._route(endpoint.value, self._call, "POST", spends=True) for endpoint in Endpoint),
            Route("/simulator/billing", self._billing),
            Route("/simulator/state", self._state),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _no_route}, lifespan=self._lifespan)

    def _route(self, path: str, handler: Handler, method: str, *, spends: bool = False) -> Route:
        async def guarded(request: Request) -> Response:
            self._provider.requests[f"{method} {path}"] += 1
            try:
                self._authorise(request)
                self._provider.check(spends=spends)
                response = await handler(request)
            except ApiError as error:
                response = _json(error.body, error.status)
                if error.retry_after_s is not None:
                    response.headers["retry-after"] = str(error.retry_after_s)
            response.headers.update(self._provider.limits_of(getattr(request.state, "asked", None)))
            response.headers["x-request-id"] = f"req_{uuid4().hex}"
            await self._deliver()
            return response

        return Route(path, guarded, methods=[method])

    def _authorise(self, request: Request) -> None:
        key = self._provider.scenario.api_key
        if key is not None and request.headers.get("authorization") != f"Bearer {key}":
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")

    # --- webhooks ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """A server ticks, so that webhooks come unasked; in process they come with the next request."""
        if self._provider.scenario.webhook is None:
            yield
            return
        ticker = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            ticker.cancel()

    async def _tick(self) -> None:
        while True:
            await self._provider.clock.sleep(_TICK_S)
            self._provider.progress()
            await self._deliver()

    async def _deliver(self) -> None:
        if self._provider.scenario.webhook is None:
            return
        now = self._provider.clock.now
        if self._webhook_client is not None:
            await self._provider.postman.deliver(self._webhook_client, now)
            return
        async with httpx2.AsyncClient() as client:
            await self._provider.postman.deliver(client, now)

    # --- calls ---------------------------------------------------------------------------------------------------

    async def _call(self, request: Request) -> Response:
        """The work is done, and billed, before the caller has waited for it: whoever leaves early pays."""
        endpoint, body = Endpoint(request.url.path), await _body(request)
        request.state.asked = body
        fate = self._provider.call(endpoint, body, request.headers.get("x-client-request-id"))
        if fate.latency_s:
            await self._provider.clock.sleep(fate.latency_s)
        response = _json(fate.body, fate.status)
        if fate.retry_after_s is not None:
            response.headers["retry-after"] = str(fate.retry_after_s)
        match fate.manner:
            case Manner.DROP:
                return Interrupted(response.body, fate.status)
            case Manner.GARBAGE:
                return Response("<html>no JSON</html>", fate.status, media_type="text/html")
            case _:
                return response

    async def _models(self, _: Request) -> Response:
        return _json(self._provider.models.listed())

    async def _model(self, request: Request) -> Response:
        return _json(self._provider.models.model(request.path_params["id"]))

    # --- files ---------------------------------------------------------------------------------------------------

    async def _upload(self, request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise invalid("Expected multipart/form-data.", None)
        try:
            form = await _InMemoryParser(request.headers, request.stream()).parse()
        except (MultiPartException, KeyError):
            raise invalid("The multipart body cannot be read.", None) from None
        file, purpose, kept = form.get("file"), form.get("purpose"), form.get("expires_after[seconds]")
        if not isinstance(file, UploadFile) or not isinstance(purpose, str):
            raise invalid("'file' and 'purpose' are required.", "file", "missing_required_parameter")
        kept_s = int(kept) if isinstance(kept, str) and kept.isdecimal() else None
        content = await file.read()
        await file.close()
        return _json(self._provider.upload(file.filename or "", purpose, content, kept_s=kept_s))

    async def _list_files(self, request: Request) -> Response:
        query = request.query_params
        newest_first = query.get("order", "desc") != "asc"
        limit = _limit(request, "files")
        after, purpose = query.get("after"), query.get("purpose")
        return _json(self._provider.list_files(purpose=purpose, after=after, limit=limit, newest_first=newest_first))

    async def _file(self, request: Request) -> Response:
        return _json(self._provider.file(request.path_params["id"]))

    async def _delete_file(self, request: Request) -> Response:
        return _json(self._provider.delete_file(request.path_params["id"]))

    async def _download(self, request: Request) -> Response:
        sent = self._provider.download(request.path_params["id"], request.headers)
        match sent.broken:
            case None:
                response = Response(sent.content, sent.status, media_type=_BYTES)
            case Break.RESET:
                response = Shortened(sent.content, sent.status, media_type=_BYTES)
            case Break.TRUNCATED:
                response = StreamingResponse(_half(sent.content), sent.status, media_type=_BYTES)
        response.headers.update(sent.headers)
        return response

    # --- batches -------------------------------------------------------------------------------------------------

    async def _create_batch(self, request: Request) -> Response:
        body, lost = self._provider.create_batch(await _body(request))
        response = _json(body)
        return Interrupted(response.body) if lost else response

    async def _list_batches(self, request: Request) -> Response:
        limit = _limit(request, "batches")
        return _json(self._provider.list_batches(after=request.query_params.get("after"), limit=limit))

    async def _batch(self, request: Request) -> Response:
        return _json(self._provider.batch(request.path_params["id"]))

    async def _cancel(self, request: Request) -> Response:
        return _json(self._provider.cancel_batch(request.path_params["id"]))

    # --- beside the API ------------------------------------------------------------------------------------------

    async def _billing(self, _: Request) -> Response:
        return _json(self._provider.billing())

    async def _state(self, _: Request) -> Response:
        return _json(self._provider.state())


async def _half(content: bytes) -> AsyncIterator[bytes]:
    yield content[: len(content) // 2]


async def _body(request: Request) -> object:
    try:
        value: object = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise invalid("We could not parse the JSON body of your request.", None) from None
    return value


def _limit(request: Request, of: str) -> int:
    text = request.query_params.get("limit", str(_DEFAULT_PAGE[of]))
    if not text.isdecimal() or not 1 <= int(text) <= _LONGEST_PAGE[of]:
        raise invalid(f"Invalid 'limit': expected an integer from 1 to {_LONGEST_PAGE[of]}.", "limit")
    return int(text)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"Invalid URL ({request.method} {request.url.path})"
    return _json(ApiError(status, message).body, status)
