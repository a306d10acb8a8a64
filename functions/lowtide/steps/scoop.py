"""Scoop: the messages that a drain has in hand, and what becomes of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from lowtide.core.task import AcceptedTask
from lowtide.core.weights import Weight
from lowtide.ports import Message, System

from .apart import apart
from .deliver import Delivery


@dataclass(frozen=True, slots=True)
class Drawn:
    """A task off the queue, with what it will take in a batch."""

    message: Message
    task: AcceptedTask
    weight: Weight


@dataclass
class Scoop:
    """What was received together. ``held``: messages that are not done with, and for how many seconds they stay away:
    a call still holds a task of theirs, say."""

    tasks: list[Drawn] = field(default_factory=list)
    deliveries: dict[str, list[Delivery]] = field(default_factory=lambda: defaultdict(list))
    held: dict[str, int] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)

    @contextmanager
    def held_if_it_fails(self, system: System, messages: Sequence[Message]) -> Iterator[None]:
        """Whatever fails in here holds these messages alone. The claims of an open part that it leaves count when the
        part's lease runs out."""
        failed: list[Exception] = []
        with apart(system, failed, "messages_held", message_ids=sorted({message.id for message in messages})[:10]):
            yield
        if failed:
            self.errors += failed
            held = {message.id: system.routes.batching.lease_s for message in messages}
            system.metrics.count("message_errors", len(held))
            self.held |= held
