"""MiniStack (https://github.com/ministackorg/ministack) on a port of its own: starting it, and killing its functions.

It runs a function's code in subprocesses of its own Python, which it keeps for the next invocation, as Lambda does.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from .processes import STARTING_S, children, free_port, running, wait_until

REGION = "eu-west-1"
FUNCTION = "_worker.py"
"""What MiniStack runs a Python function with."""


@dataclass(frozen=True, slots=True)
class Emulator:
    url: str
    environment: dict[str, str]
    """What makes boto3 and the command talk to it."""
    log: Path
    process: subprocess.Popen

    def kill_functions(self, spare: Sequence[str]) -> int:
        """Kills every function's process, whatever it is doing, but for those whose names hold a word of ``spare``.
        Returns how many there were."""
        found = [pid for pid, line in children(self.process.pid, FUNCTION) if not any(word in line for word in spare)]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)


@contextmanager
def emulated(program: Path, scratch: Path) -> Iterator[Emulator]:
    """``scratch`` takes its log, and the code that it unpacks for each function."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    # Its functions inherit what it is given, so it is given little: no setting of this shell reaches them.
    own = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    own |= {
        "AUTH": "true",  # policies are enforced: functions have their roles, and nothing else
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "TMPDIR": str(scratch),
        "SFTP_ENABLED": "0",  # these two would listen on ports that others may have
        "IOT_MTLS_ENABLED": "0",
    }
    log = scratch / "ministack.log"
    with running([program], own, log) as process:
        wait_until("MiniStack answers", lambda: _silent(environment, process), STARTING_S, 0.1)
        yield Emulator(url, environment, log, process)


def _silent(environment: dict[str, str], process: subprocess.Popen) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"MiniStack ended with {process.returncode}")
    try:
        return httpx2.get(f"{environment['AWS_ENDPOINT_URL']}/_ministack/health").is_error
    except httpx2.TransportError:
        return True
