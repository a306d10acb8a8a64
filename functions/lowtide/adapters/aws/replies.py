"""Replies to the senders' own SQS queues."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from lowtide.core.errors import Busy, LowtideError
from lowtide.ports import Metrics, Outgoing, Reply

from .queue import SqsQueue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class SqsReplies:
    """A ports.Replies. Only queues whose URL is in ``allowed`` are written to, whatever a task says. Raises Busy where
    a queue may take its replies in a moment, once the others have theirs.

    Counts ``replies_sent`` and ``replies_dropped``; the record is in the results either way.
    """

    def __init__(self, client: SQSClient, allowed: Collection[str], metrics: Metrics) -> None:
        self._client = client
        self._allowed = frozenset(allowed)
        self._metrics = metrics

    def send(self, replies: Sequence[Reply]) -> None:
        messages: dict[str, list[Outgoing]] = {}
        for reply in replies:
            messages.setdefault(reply.url, []).append(_message(reply))
        busy: list[Busy] = []
        for url, same_queue in messages.items():
            try:
                if url in self._allowed:
                    self._deliver(url, same_queue)
                else:
                    self._drop(url, len(same_queue), "not on the allow-list")
            except Busy as error:
                busy.append(error)
        if busy:
            raise busy[0]

    def _deliver(self, url: str, messages: list[Outgoing]) -> None:
        queue = SqsQueue(self._client, url)
        try:
            queue.send(messages)
        except Busy:
            raise
        except LowtideError as error:
            if len(messages) == 1:
                self._drop(url, 1, str(error))
                return
            # One that cannot be sent must not hold back the others. Those already sent go twice: at least once.
            for message in messages:
                self._deliver(url, [message])
            return
        self._metrics.count("replies_sent", len(messages))

    def _drop(self, url: str, number: int, reason: str) -> None:
        self._metrics.count("replies_dropped", number)
        self._metrics.log("reply_dropped", queue=url, replies=number, reason=reason)


def _message(reply: Reply) -> Outgoing:
    beside = {"id": reply.id, "result": reply.result, "traceparent": reply.traceparent}
    return Outgoing(reply.body, attributes={name: text for name, text in beside.items() if text is not None})
