"""The programs that a run starts: each in a process group of its own, and none of them outlives it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

STARTING_S = 60.0
ENDING_S = 5.0
MISSING_CHARACTERS = 500


class NeverCame(Exception):
    """Something did not happen within the time that it was given."""


@contextmanager
def running(command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """The program, and all that it starts itself, until the block is left. Its output goes to ``log``."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # the group is what is ended: functions are children of the emulator
            command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_S)
    # The group's leader has ended; a child that outlived it has not.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what: str, missing: Callable[[], object], within_s: float, every_s: float = 0.5) -> None:
    """Asks again and again until nothing is ``missing``. Raises NeverCame, which says what was missing at the end."""
    give_up = time.monotonic() + within_s
    while left := missing():
        if time.monotonic() > give_up:
            raise NeverCame(f"{what}: not within {within_s:.0f} s; missing: {str(left)[:MISSING_CHARACTERS]}")
        time.sleep(every_s)


def children(parent: int, word: str) -> list[tuple[int, str]]:
    """(process, command line) of those that ``parent`` started and whose command line holds ``word``."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], check=True, capture_output=True, text=True)
    fields = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [(int(pid), "".join(line)) for pid, above, *line in fields if int(above) == parent and word in "".join(line)]
