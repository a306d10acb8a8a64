"""Drain: LOW tasks off their queue into parts.

The part's object is durable before its row, the row before any claim that names it, and the claims before the part is
closed and the messages deleted. A crash after the claims leaves an open part whose lease runs out: it is sealed like
any other. A drain that outlives its lease finds its part joined, and the batch carries what it did not send; or done,
and its messages come again, to be carried into another part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import assert_never

from lowtide.core.errors import safely_told
from lowtide.core.holds import InForce
from lowtide.core.parts import RESCUED, Close, Lot, Open, PartLine, PartRow, PartState, PartVerdict
from lowtide.core.returns import away_s
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import Carry, ClaimPart, Decision, Strikes, TaskEvent, TaskRow, TaskState, Verdict
from lowtide.core.tenants import SHARED, many
from lowtide.core.tiers import Tier
from lowtide.core.weights import Weight, weigh
from lowtide.ports import Change, Message, System

from .apart import apart
from .carry import Unreadable, read_tasks
from .deliver import Delivery, deliver
from .part_file import PartFile

SCOOP_MESSAGES = 200
"""Messages in hand at a time: enough to fill parts, few against SQS's 120,000 in flight."""

SCOOP_BYTES = 4_000_000
"""Of messages in hand: read, they take several times as much memory."""

FIRST_RECEIVE = 10
"""Messages that are received before it is known how large they are here; each may have 1 MiB."""


@dataclass
class Drained:
    """Counts of what a drain moved."""

    messages: int = 0
    tasks: int = 0
    parts: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    """What kept messages from their parts: they come again, and the others went on."""


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A task off the queue, with what it will take in a batch."""

    message: Message
    task: AcceptedTask
    weight: Weight


@dataclass
class _Scoop:
    """What was received together. ``held`` messages carry a task that a call still holds: they come back."""

    tasks: list[_Drawn] = field(default_factory=list)
    deliveries: dict[str, list[Delivery]] = field(default_factory=lambda: defaultdict(list))
    held: dict[str, int] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)


def drain(system: System, *, stop_at: datetime | None = None) -> Drained:
    """Until the queue is empty or ``stop_at`` has come."""
    drained = Drained()
    while stop_at is None or system.clock.now() < stop_at:
        messages = _receive(system)
        if not messages:
            break
        _mark(system, messages)
        parts, errors = _stage(system, messages)
        drained.messages += len(messages)
        drained.tasks += sum(part.tasks for part in parts)
        drained.parts += [part.part_id for part in parts]
        drained.errors += errors
    return drained


def _mark(system: System, messages: Sequence[Message]) -> None:
    oldest = min(message.sent_at for message in messages)
    system.levels.mark(Tier.LOW, (system.clock.now() - oldest).total_seconds())


def _receive(system: System) -> list[Message]:
    """As many as are worth a part and fit in memory."""
    messages: list[Message] = []
    size, most = 0, FIRST_RECEIVE
    while most > 0:
        found = system.tiers[Tier.LOW].receive(most, visibility_s=system.routes.batching.lease_s)
        messages += found
        size += sum(len(message.body) for message in found)
        if len(found) < most:
            break
        # More of those would be as large as these.
        room = (SCOOP_BYTES - size) * len(messages) // size
        most = min(SCOOP_MESSAGES - len(messages), room)
    return messages


def _stage(system: System, messages: Sequence[Message]) -> tuple[list[PartRow], list[Exception]]:
    scoop = _read(system, messages)
    staged = []
    for (lot, tenant), group in _by_lot(system, scoop.tasks).items():
        slices: list[list[_Drawn]] = []
        with _held_if_it_fails(system, scoop, [drawn.message for drawn in group]):
            slices += (slice_ for those in _by_turns(group) for slice_ in _slices(system, lot, those))
        for slice_ in slices:
            with _held_if_it_fails(system, scoop, [drawn.message for drawn in slice_]):
                part = _open(system, lot, tenant, slice_)
                _claim(system, part, slice_, scoop)
                staged.append((part, slice_))
    for message in messages:
        with _held_if_it_fails(system, scoop, [message]):
            deliver(system, f"message/{message.id}", scoop.deliveries[message.id])
    _close(system, staged, scoop)
    low = system.tiers[Tier.LOW]
    low.delete([message for message in messages if message.id not in scoop.held])
    held = [(message, scoop.held[message.id]) for message in messages if message.id in scoop.held]
    now = system.clock.now()
    low.defer([(each, round(away_s(wait_s, each.receives, each.sent_at, (), now))) for each, wait_s in held])
    return [part for part, _ in staged], scoop.errors


@contextmanager
def _held_if_it_fails(system: System, scoop: _Scoop, messages: Sequence[Message]) -> Iterator[None]:
    """Whatever it is, the neighbours go on. The claims of an open part that it leaves count when its lease runs out."""
    before = len(scoop.errors)
    with apart(system, scoop.errors, "messages_held", message_ids=sorted({message.id for message in messages})[:10]):
        yield
    if len(scoop.errors) > before:
        held = {message.id: system.routes.batching.lease_s for message in messages}
        system.metrics.count("message_errors", len(held))
        scoop.held |= held


def _close(system: System, staged: Sequence[tuple[PartRow, Sequence[_Drawn]]], scoop: _Scoop) -> None:
    changes = [Change(part.part_id, Close(), part) for part, _ in staged]
    for (part, slice_), end in zip(staged, system.parts.apply(changes, system.clock.now()), strict=True):
        if end.verdict is PartVerdict.STALE:
            system.metrics.log("drain_outlived_lease", part_id=part.part_id)
        if end.row is not None and end.row.state is PartState.DONE:
            # The batch that took it looked for claims before ours came: whoever has the messages next carries them.
            scoop.held |= {drawn.message.id: 0 for drawn in slice_}
        elif end.row is not None and end.row.batch_id == RESCUED:
            # The same once it is divided, which no function takes longer over than a lease.
            scoop.held |= {drawn.message.id: system.routes.batching.lease_s for drawn in slice_}


def _read(system: System, messages: Sequence[Message]) -> _Scoop:
    scoop = _Scoop()
    for message in messages:
        try:
            # Weighed here, because what cannot be rendered must not hold up a part.
            scoop.tasks += [_Drawn(message, task, weigh(task)) for task in read_tasks(system, message)]
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


def _by_lot(system: System, tasks: Sequence[_Drawn]) -> dict[tuple[Lot, str | None], list[_Drawn]]:
    """Tasks of a tenant who is held go into parts of their own, which wait without keeping others waiting."""
    in_force = InForce.of(system.holds.active())
    lots: dict[tuple[Lot, str | None], list[_Drawn]] = defaultdict(list)
    for drawn in tasks:
        tenant = drawn.task.tenant
        apart = in_force.apart(tenant, drawn.task.model)
        lots[lot_of(drawn.task), tenant if apart else None].append(drawn)
    return lots


def lot_of(task: AcceptedTask) -> Lot:
    return Lot(provider=task.provider, model=task.model, endpoint=task.endpoint)


def _by_turns(group: Sequence[_Drawn]) -> list[list[_Drawn]]:
    """Tenants with many tasks apart from each other and from the others, so that each can have its turns."""
    own = many(Counter(drawn.task.tenant for drawn in group))
    apart: dict[str, list[_Drawn]] = defaultdict(list)
    for drawn in group:
        apart[drawn.task.tenant if drawn.task.tenant in own else SHARED].append(drawn)
    return list(apart.values())


def _slices(system: System, lot: Lot, group: Sequence[_Drawn]) -> Iterator[list[_Drawn]]:
    routes = system.routes
    most, most_tokens = routes.part_tasks(lot.model), routes.batch_tokens(lot.provider, lot.model)
    most_bytes, most_inputs = routes.batching.part_bytes, routes.provider(lot.provider).max_embedding_inputs
    held: list[_Drawn] = []
    size = inputs = tokens = 0
    for drawn in group:
        weight = drawn.weight
        size, inputs, tokens = size + weight.bytes, inputs + weight.inputs, tokens + weight.tokens
        too_large = size > most_bytes or inputs > most_inputs or tokens > most_tokens
        if held and (len(held) >= most or too_large):
            yield held
            held, size, inputs, tokens = [], weight.bytes, weight.inputs, weight.tokens
        held.append(drawn)
    if held:
        yield held


def _open(system: System, lot: Lot, tenant: str | None, slice_: Sequence[_Drawn]) -> PartRow:
    now = system.clock.now()
    digest = sha256("\n".join([now.isoformat(), *(drawn.task.origin for drawn in slice_)]).encode()).hexdigest()
    lease_until = now + timedelta(seconds=system.routes.batching.lease_s)
    with PartFile() as file:
        for drawn in _first_copies(slice_):
            strikes = Strikes(spent_usd=drawn.task.spent_usd, unpriced=drawn.task.unpriced)
            file.add(PartLine(task=drawn.task, strikes=strikes), drawn.weight)
        changes = {"lease_until": lease_until, "tenant": tenant}
        part = file.row(f"p-{digest[:24]}", lot, now).model_copy(update=changes)
        file.put(system.objects, part)
    system.parts.apply([Change(part.part_id, Open(part))], now)
    return part


def _first_copies(slice_: Sequence[_Drawn]) -> Iterable[_Drawn]:
    """One line for each task, for the copy that is the first to claim it: the part must hold no other token."""
    firsts: dict[tuple[str, str, int], _Drawn] = {}
    for drawn in slice_:
        task = drawn.task
        firsts.setdefault((task.key, task.content_hash, task.generation), drawn)
    return firsts.values()


def _claim(system: System, part: PartRow, slice_: Sequence[_Drawn], scoop: _Scoop) -> None:
    now = system.clock.now()
    changes: list[Change[TaskRow, TaskEvent]] = [
        Change(drawn.task.key, ClaimPart(drawn.task, part.part_id)) for drawn in slice_
    ]
    claims = system.tasks.apply(changes, now)
    carried, between = _take_over(system, part, slice_, claims)
    for drawn, claim in zip(slice_, claims, strict=True):
        message, task = drawn.message, drawn.task
        row = carried.get(task.key, claim.row)
        if row is None:
            raise AssertionError("a claim on no row makes the row")
        if task.key in between:
            scoop.held[message.id] = system.routes.batching.lease_s
        match claim.verdict:
            case Verdict.CONFLICT:
                scoop.deliveries[message.id].append(Delivery.conflict(task, now))
            case Verdict.APPLIED | Verdict.REPEATED | Verdict.DUPLICATE:
                if (owed := Delivery.unneeded(task, row)) is not None:
                    scoop.deliveries[message.id].append(owed)
            case Verdict.CANCELLED:
                scoop.deliveries[message.id].append(Delivery.settled(task, row))
            case Verdict.BUSY | Verdict.NOT_YET:
                scoop.held[message.id] = system.routes.batching.lease_s
            case Verdict.STALE | Verdict.IN_VAIN:
                raise AssertionError(f"a claim cannot be {claim.verdict}")
            case _:
                assert_never(claim.verdict)


def _take_over(
    system: System, part: PartRow, slice_: Sequence[_Drawn], claims: Sequence[Decision]
) -> tuple[dict[str, TaskRow | None], frozenset[str]]:
    """Carry the tasks that an earlier drain claimed too late for its part: the batch, or the rescue, is through with
    it, and would have moved on every task that it knew of. Any copy of such a task carries it. Returns the rows of
    those carried, and the keys of those whose part is being rescued now: they are to come again when that is over."""
    staged: dict[str, tuple[AcceptedTask, TaskRow]] = {}
    for drawn, claim in zip(slice_, claims, strict=True):
        task, row = drawn.task, claim.row
        if row is None or claim.verdict not in (Verdict.REPEATED, Verdict.DUPLICATE):
            continue
        if row.state is TaskState.STAGED and row.speaks_of(task):
            staged.setdefault(task.key, (task, row))
    holders = sorted({row.holder for _, row in staged.values() if row.holder is not None} - {part.part_id})
    held = [each for each in system.parts.get(holders) if each is not None]
    done = frozenset(each.part_id for each in held if each.state is PartState.DONE)
    rescued = {each.part_id for each in held if each.batch_id == RESCUED} - done
    lost = [(task, row) for task, row in staged.values() if row.holder in done]
    carried: dict[str, TaskRow | None] = {}
    if lost:
        system.metrics.log("stragglers", part_id=part.part_id, tasks=len(lost))
        changes: list[Change[TaskRow, TaskEvent]] = [
            Change(task.key, Carry(done, part.part_id, task), row) for task, row in lost
        ]
        decisions = system.tasks.apply(changes, system.clock.now())
        carried = {task.key: decision.row for (task, _), decision in zip(lost, decisions, strict=True)}
    return carried, frozenset(row.key for _, row in staged.values() if row.holder in rescued)
