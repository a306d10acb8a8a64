"""Replies to the senders' own SQS queues."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from lowtide.core.errors import LowtideError
from lowtide.ports import Metrics, Outgoing

from .queue import SqsQueue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class SqsReplies:
    """A ports.Replies. Only queues whose URL is in ``allowed`` are written to, whatever a task says.

    Counts ``replies_sent`` and ``replies_dropped``; the record is in the results either way.
    """

    def __init__(self, client: SQSClient, allowed: Collection[str], metrics: Metrics) -> None:
        self._client = client
        self._allowed = frozenset(allowed)
        self._metrics = metrics

    def send(self, replies: Sequence[tuple[str, str]]) -> None:
        bodies: dict[str, list[str]] = {}
        for url, body in replies:
            bodies.setdefault(url, []).append(body)
        for url, same_queue in bodies.items():
            if url in self._allowed:
                self._deliver(url, same_queue)
            else:
                self._drop(url, len(same_queue), "not on the allow-list")

    def _deliver(self, url: str, bodies: list[str]) -> None:
        queue = SqsQueue(self._client, url)
        try:
            queue.send([Outgoing(body) for body in bodies])
        except LowtideError as error:
            if len(bodies) == 1:
                self._drop(url, 1, str(error))
                return
            # One that cannot be sent must not hold back the others. Those already sent go twice: at least once.
            for body in bodies:
                self._deliver(url, [body])
            return
        self._metrics.count("replies_sent", len(bodies))

    def _drop(self, url: str, number: int, reason: str) -> None:
        self._metrics.count("replies_dropped", number)
        self._metrics.log("reply_dropped", queue=url, replies=number, reason=reason)
