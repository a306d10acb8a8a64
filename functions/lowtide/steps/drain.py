"""Drain: LOW tasks off their queue into parts.

The part's object is durable before its row, the row before any claim that names it, and the claims before the part is
closed and the messages deleted. A crash after the claims leaves an open part whose lease runs out: it is sealed like
any other. A drain that outlives its lease finds its part joined, and the batch carries what it did not send; or done,
and its messages come again, to be carried into another part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import assert_never

from lowtide.core.errors import safely_told
from lowtide.core.lines import embedding_inputs, estimated_tokens, request_line
from lowtide.core.parts import Close, Lot, Open, PartLine, PartRow, PartState, PartVerdict, part_object
from lowtide.core.prompts import request_body
from lowtide.core.task import CUSTOM_ID_CHARS, AcceptedTask, Endpoint, task_key
from lowtide.core.tasks import Carry, ClaimPart, TaskEvent, TaskRow, TaskState, Verdict
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
    staged = []
    for lot, group in _by_lot(scoop.tasks).items():
        for slice_ in _slices(system, group):
            part = _open(system, lot, [task for _, task in slice_])
            _claim(system, part, slice_, scoop)
            staged.append((part, slice_))
    for message in messages:
        deliver(system, f"message/{message.id}", scoop.deliveries[message.id])
    _close(system, staged, scoop)
    low = system.tiers[Tier.LOW]
    low.delete([message for message in messages if message.id not in scoop.held])
    low.defer([(message, scoop.held[message.id]) for message in messages if message.id in scoop.held])
    return [part for part, _ in staged]


def _close(
    system: System, staged: Sequence[tuple[PartRow, Sequence[tuple[Message, AcceptedTask]]]], scoop: _Scoop
) -> None:
    changes = [Change(part.part_id, Close(), part) for part, _ in staged]
    for (part, pairs), end in zip(staged, system.parts.apply(changes, system.clock.now()), strict=True):
        if end.verdict is PartVerdict.STALE:
            system.metrics.log("drain_outlived_lease", part_id=part.part_id)
        if end.row is not None and end.row.state is PartState.DONE:
            # The batch that took it looked for claims before ours came: whoever has the messages next carries them.
            scoop.held |= {message.id: 0 for message, _ in pairs}


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
    size = inputs = 0
    for pair in group:
        task = pair[1]
        width = len(task.model_dump_json())
        asks = embedding_inputs(task.body or {}) if task.endpoint is Endpoint.EMBEDDINGS else 0
        many = inputs + asks > system.routes.provider(task.provider).max_embedding_inputs
        if held and (len(held) >= limits.part_tasks or size + width > limits.part_bytes or many):
            yield held
            held, size, inputs = [], 0, 0
        held.append(pair)
        size += width
        inputs += asks
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
    # As it will be written, escapes and all: a character outside ASCII takes six or twelve bytes there.
    sizes = [len(request_line("0" * CUSTOM_ID_CHARS, lot.endpoint, body)) for body in bodies]
    return PartRow(
        part_id=part_id,
        lot=lot,
        object_key=part_object(part_id),
        tasks=len(lines),
        bytes=sum(sizes),
        inputs=sum(embedding_inputs(body) for body in bodies) if lot.endpoint is Endpoint.EMBEDDINGS else 0,
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
    claims = system.tasks.apply(changes, now)
    _take_over(system, part, [claim.row for claim in claims if claim.verdict is Verdict.REPEATED])
    for (message, task), claim in zip(pairs, claims, strict=True):
        match claim.verdict:
            case Verdict.CONFLICT:
                scoop.deliveries[message.id].append(Delivery.conflict(task, now))
            case Verdict.DUPLICATE:
                scoop.deliveries[message.id].append(Delivery.duplicate(task))
            case Verdict.CANCELLED if claim.row is not None:
                scoop.deliveries[message.id].append(Delivery.settled(task, claim.row))
            case Verdict.BUSY | Verdict.NOT_YET:
                scoop.held[message.id] = system.routes.batching.lease_s
            case Verdict.APPLIED | Verdict.REPEATED | Verdict.STALE | Verdict.CANCELLED | Verdict.IN_VAIN:
                pass
            case _:
                assert_never(claim.verdict)


def _take_over(system: System, part: PartRow, claimed: Sequence[TaskRow | None]) -> None:
    """Tasks of ours that an earlier drain claimed too late for its part: the batch is through with it, and would have
    moved on every task that it sent."""
    staged = [row for row in claimed if row is not None and row.state is TaskState.STAGED]
    holders = sorted({row.holder for row in staged if row.holder is not None} - {part.part_id})
    done = frozenset(held.part_id for held in system.parts.get(holders) if held and held.state is PartState.DONE)
    lost = [row for row in staged if row.holder in done]
    if lost:
        system.metrics.log("stragglers", part_id=part.part_id, tasks=len(lost))
        changes: list[Change[TaskRow, TaskEvent]] = [
            Change(task_key(row.tenant, row.task_id), Carry(done, part.part_id), row) for row in lost
        ]
        system.tasks.apply(changes, system.clock.now())
