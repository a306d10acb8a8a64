"""The simulated provider on a socket: ``lowtide simulate``."""

from __future__ import annotations

import socket
import sys

import uvicorn

from lowtide.adapters.clock import WallClock
from lowtide.core.errors import LowtideError

from .app import build_app
from .provider import SimulatedProvider
from .scenario import Scenario


def serve(port: int, scenario: Scenario, host: str = "127.0.0.1") -> None:
    """Serves until it is interrupted; says on one line where it listens. ``port`` 0 takes a free one.

    Raises LowtideError where the port cannot be had.
    """
    with listen(port, host) as listener:
        server(SimulatedProvider(scenario, WallClock()), announce=True).run(sockets=[listener])


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A bound socket. Raises LowtideError where the port cannot be had."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise LowtideError(f"cannot listen on {host}:{port}: {reason}; choose another port") from None
    return listener


def server(provider: SimulatedProvider, *, announce: bool = False) -> uvicorn.Server:
    """To be run on a socket of ``listen``. It logs nothing: a broken connection is its trade, not an error."""
    config = uvicorn.Config(
        build_app(provider),
        log_config=None,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=1,  # seconds: nobody waits for the ends of latencies
    )
    return _Announcing(config) if announce else uvicorn.Server(config)


class _Announcing(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            sys.stdout.write(
                f"simulated provider on http://{shown}:{port}/v1 · billing at /simulator/billing, state at "
                "/simulator/state · Ctrl-C ends it\n"
            )
            sys.stdout.flush()
