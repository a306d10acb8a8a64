"""A provider that speaks the OpenAI protocol and bills nobody: for the demo, the tests, and users' own tests.

In process it is one application behind ``httpx2.ASGITransport``, on whatever clock it is given; ``serve`` puts it on a
socket.
"""

from .app import build_app
from .billing import BilledLine
from .provider import SimulatedProvider
from .scenario import Scenario
from .server import listen, serve, server

__all__ = ["BilledLine", "Scenario", "SimulatedProvider", "build_app", "listen", "serve", "server"]
