"""Callbacks to Step Functions: a state machine that sleeps on a task token is woken with the answer, or the failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from botocore.exceptions import BotoCoreError, ClientError

from lowtide.core.errors import LowtideError
from lowtide.core.outward import Callback, Failure, Success
from lowtide.ports import Metrics

from .threads import concurrently

_GONE = frozenset(
    {
        "TaskTimedOut",  # nobody waits any more, or it was woken before: callbacks come at least once
        "TaskDoesNotExist",
        "InvalidToken",
        "InvalidOutput",
        "AccessDeniedException",  # a state machine that the deployer has not named
        "KmsAccessDeniedException",  # one whose key we may not use, or that is disabled: as long as nobody mends it
        "KmsInvalidStateException",
        "ValidationException",
    }
)


class StateMachines:
    """A ports.Callbacks. Counts ``callbacks_sent`` and ``callbacks_dropped``."""

    taken = True

    def __init__(self, client: Any, metrics: Metrics, threads: int) -> None:
        self._client = client
        self._metrics = metrics
        self._threads = threads

    def send(self, callbacks: Sequence[Callback]) -> None:
        reasons = [reason for reason in concurrently(self._send, callbacks, self._threads) if reason is not None]
        self._metrics.count("callbacks_sent", len(callbacks) - len(reasons))
        if reasons:
            self._metrics.count("callbacks_dropped", len(reasons))
            self._metrics.log("callbacks_dropped", callbacks=len(reasons), reason=", ".join(sorted(set(reasons))))

    def _send(self, callback: Callback) -> str | None:
        """Why nobody was woken, where nobody will be."""
        try:
            match callback.told:
                case Success(output):
                    self._client.send_task_success(taskToken=callback.token, output=output)
                case Failure(error, cause):
                    self._client.send_task_failure(taskToken=callback.token, error=error, cause=cause)
                case _:
                    assert_never(callback.told)
        except (BotoCoreError, ClientError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            if code in _GONE:
                return code
            raise LowtideError(f"waking a state machine failed: {error}; send again") from error
        return None


class NoCallbacks:
    """A ports.Callbacks for a deployment that names no state machine."""

    taken = False

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def send(self, callbacks: Sequence[Callback]) -> None:
        """Tokens of the time when one was named, or of what was refused."""
        self._metrics.count("callbacks_dropped", len(callbacks))
