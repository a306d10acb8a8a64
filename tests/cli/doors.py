"""A door before the simulated provider, on a socket of its own: shut, watched, or with something else behind it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Thread

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lowtide_local.simulator import listen


@contextmanager
def before(root, first=(), change=None, port=0, **settings):
    """A server that passes everything on to ``root``; its port, and the URLs that it was asked for.

    ``first`` are routes that it answers itself; ``change`` makes another JSON of a reply.
    """
    seen = []

    async def forward(request):
        seen.append(str(request.url))
        async with httpx2.AsyncClient(timeout=30, trust_env=False) as client:
            reply = await client.request(
                request.method,
                f"{root}{request.url.path}?{request.url.query}",
                content=await request.body(),
                headers={name: each for name, each in request.headers.items() if name in _PASSED_ON},
            )
        if change is not None and reply.headers.get("content-type") == "application/json":
            return JSONResponse(change(request.url.path, reply.json()), reply.status_code)
        return Response(reply.content, reply.status_code, media_type=reply.headers.get("content-type"))

    app = Starlette(routes=[*first, Route("/{path:path}", forward, methods=["GET", "POST", "DELETE"])])
    with listen(port) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", **settings))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield listener.getsockname()[1], seen
        finally:
            server.should_exit = True
            thread.join()


_PASSED_ON = frozenset({"content-type", "x-client-request-id"})
