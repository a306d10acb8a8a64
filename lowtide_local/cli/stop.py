"""How a command ends early: one clear line and an exit code, no traceback."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Of every verb."""

    DONE = 0
    FAILURE = 1
    USAGE = 2
    SOME_DEAD = 3
    UNBALANCED = 4
    """``run`` is done, but a check of its reconciliation failed."""


class Stop(Exception):
    """Ends the command with ``code`` after printing the message as one line on stderr."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


def usage(message: str) -> Stop:
    """Wrong usage, no key, or an input that cannot be read."""
    return Stop(message, ExitCode.USAGE)
