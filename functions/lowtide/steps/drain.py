"""Drain: LOW tasks off their queue into parts.

The part's object is durable before its row, the row before any claim that names it, the claims before the messages are
deleted, and the part is closed last. A crash after the claims leaves an open part whose lease runs out: it is sealed
like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from lowtide.core.errors import safely_told
from lowtide.core.lines import estimated_tokens
from lowtide.core.parts import Close, Lot, Open, PartLine, PartRow, PartVerdict
from lowtide.core.prompts import request_body
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import ClaimPart, TaskEvent, TaskRow, Verdict
from lowtide.core.tiers import Tier
from lowtide.ports import Change, Message, System

from .carry import Unreadable, read_tasks
from .deliver import Delivery, deliver

SCOOP_MESSAGES = 200
"""Messages in hand at a time: enough to fill parts, few against SQS's 120,000 in flight."""


@dataclass
class Drained:
    """Counts of what a drain moved."""

    messages: int = 0
    tasks: int = 0
    parts: list[str] = field(default_factory=list)


@dataclass
class _Scoop:
    """What was received together. ``held`` messages carry a task that a call still holds: they come back."""

    tasks: list[tuple[Message, AcceptedTask]] = field(default_factory=list)
    deliveries: dict[str, list[Delivery]] = field(default_factory=lambda: defaultdict(list))
    held: dict[str, int] = field(default_factory=dict)


def drain(system: System, *, stop_at: datetime | None = None) -> Drained:
    """Until the queue is empty or ``stop_at`` has come."""
    drained = Drained()
    low = system.tiers[Tier.LOW]
    while stop_at is None or system.clock.now() < stop_at:
        messages = low.receive(SCOOP_MESSAGES, visibility_s=system.routes.batching.lease_s)
        if not messages:
            break
        parts = _stage(system, messages)
        drained.messages += len(messages)
        drained.tasks += sum(part.tasks for part in parts)
        drained.parts += [part.part_id for part in parts]
    return drained


def _stage(system: System, messages: Sequence[Message]) -> list[PartRow]:
    scoop = _read(system, messages)
    parts = []
    for lot, group in _by_lot(scoop.tasks).items():
        for slice_ in _slices(system, group):
            part = _open(system, lot, [task for _, task in slice_])
            _claim(system, part, slice_, scoop)
            parts.append(part)
    for message in messages:
        deliver(system, f"message/{message.id}", scoop.deliveries[message.id])
    low = system.tiers[Tier.LOW]
    low.delete([message for message in messages if message.id not in scoop.held])
    low.defer([(message, scoop.held[message.id]) for message in messages if message.id in scoop.held])
    closed = system.parts.apply([Change(part.part_id, Close(), part) for part in parts], system.clock.now())
    if late := [part.part_id for part, end in zip(parts, closed, strict=True) if end.verdict is PartVerdict.STALE]:
        # The lease ran out under us and a batch took the part: its collection carries what it did not send.
        system.metrics.log("drain_outlived_lease", parts=late)
    return parts


def _read(system: System, messages: Sequence[Message]) -> _Scoop:
    scoop = _Scoop()
    for message in messages:
        try:
            tasks = read_tasks(system, message)
            for task in tasks:
                request_body(task, system.routes)  # what cannot be rendered must not hold up a part
            scoop.tasks += [(message, task) for task in tasks]
        except Unreadable as error:
            unreadable = Delivery.unreadable(message, str(error), system.clock.now())
            scoop.deliveries[message.id].append(unreadable)
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours go on
            system.metrics.count("message_errors")
            system.metrics.log(
                "message_failed", message_id=message.id, receives=message.receives, error=safely_told(error)
            )
            scoop.held[message.id] = system.routes.batching.lease_s
    return scoop


def _by_lot(tasks: Sequence[tuple[Message, AcceptedTask]]) -> dict[Lot, list[tuple[Message, AcceptedTask]]]:
    lots: dict[Lot, list[tuple[Message, AcceptedTask]]] = defaultdict(list)
    for message, task in tasks:
        lots[lot_of(task)].append((message, task))
    return lots


def lot_of(task: AcceptedTask) -> Lot:
    return Lot(provider=task.provider, model=task.model, endpoint=task.endpoint)


def _slices(
    system: System, group: Sequence[tuple[Message, AcceptedTask]]
) -> Iterator[list[tuple[Message, AcceptedTask]]]:
    limits = system.routes.batching
    held: list[tuple[Message, AcceptedTask]] = []
    size = 0
    for pair in group:
        width = len(pair[1].model_dump_json())
        if held and (len(held) >= limits.part_tasks or size + width > limits.part_bytes):
            yield held
            held, size = [], 0
        held.append(pair)
        size += width
    if held:
        yield held


def _open(system: System, lot: Lot, tasks: Sequence[AcceptedTask]) -> PartRow:
    now = system.clock.now()
    lines = [PartLine(task=task) for task in tasks]
    digest = sha256("\n".join([now.isoformat(), *(task.origin for task in tasks)]).encode()).hexdigest()
    lease_until = now + timedelta(seconds=system.routes.batching.lease_s)
    part = part_row(system, f"p-{digest[:24]}", lot, lines, now).model_copy(update={"lease_until": lease_until})
    write_part(system, part, lines)
    system.parts.apply([Change(part.part_id, Open(part))], now)
    return part


def part_row(system: System, part_id: str, lot: Lot, lines: Sequence[PartLine], now: datetime) -> PartRow:
    """The row of a part that holds ``lines``, with estimates of what they will take in a batch."""
    bodies = [request_body(line.task, system.routes) for line in lines]
    sizes = [len(str(body)) for body in bodies]
    return PartRow(
        part_id=part_id,
        lot=lot,
        object_key=f"parts/{part_id}.jsonl",
        tasks=len(lines),
        bytes=sum(sizes) + 200 * len(lines),
        tokens=sum(estimated_tokens(body, size) for body, size in zip(bodies, sizes, strict=True)),
        oldest_at=min(line.task.accepted_at for line in lines),
        tightest_deadline=min(line.task.deadline_at for line in lines),
        created_at=now,
    )


def write_part(system: System, part: PartRow, lines: Sequence[PartLine]) -> None:
    system.objects.put(part.object_key, b"".join(line.model_dump_json().encode() + b"\n" for line in lines))


def _claim(system: System, part: PartRow, pairs: Sequence[tuple[Message, AcceptedTask]], scoop: _Scoop) -> None:
    now = system.clock.now()
    changes: list[Change[TaskRow, TaskEvent]] = [Change(task.key, ClaimPart(task, part.part_id)) for _, task in pairs]
    for (message, task), claim in zip(pairs, system.tasks.apply(changes, now), strict=True):
        match claim.verdict:
            case Verdict.CONFLICT:
                scoop.deliveries[message.id].append(Delivery.conflict(task, now))
            case Verdict.DUPLICATE:
                scoop.deliveries[message.id].append(Delivery.duplicate(task))
            case Verdict.BUSY | Verdict.NOT_YET:
                scoop.held[message.id] = system.routes.batching.lease_s
            case Verdict.APPLIED | Verdict.REPEATED | Verdict.STALE:
                pass
