"""Drain: LOW tasks off their queue into parts.

The part's object is durable before its row, the row before any claim that names it, and the claims before the part is
closed and the messages deleted. A crash after the claims leaves an open part whose lease runs out: it is sealed like
any other. A drain that outlives its lease finds its part joined, and the batch carries what it did not send; or done,
and its messages come again, to be carried into another part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from lowtide.core.errors import safely_told
from lowtide.core.holds import InForce
from lowtide.core.parts import RESCUED, Close, Lot, Open, PartLine, PartRow, PartState, PartVerdict
from lowtide.core.returns import away_s
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import Strikes
from lowtide.core.tenants import SHARED, many
from lowtide.core.tiers import Tier
from lowtide.core.weights import weigh
from lowtide.ports import Change, Message, System

from .carry import Unreadable, read_tasks
from .deliver import Delivery, deliver
from .part_claims import claim, first_copies
from .part_file import PartFile
from .scoop import Drawn, Scoop

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
        try:
            found = system.tiers[Tier.LOW].receive(most, visibility_s=system.routes.batching.lease_s)
        except Exception:
            if messages:
                break  # those in hand go on; if the queue fails for longer, the next receive raises
            raise
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
        slices: list[list[Drawn]] = []
        with scoop.held_if_it_fails(system, [drawn.message for drawn in group]):
            slices += (slice_ for those in _by_turns(group) for slice_ in _slices(system, lot, those))
        for slice_ in slices:
            with scoop.held_if_it_fails(system, [drawn.message for drawn in slice_]):
                part = _open(system, lot, tenant, slice_)
                claim(system, part, slice_, scoop)
                staged.append((part, slice_))
    for message in messages:
        with scoop.held_if_it_fails(system, [message]):
            deliver(system, f"message/{message.id}", scoop.deliveries[message.id])
    _close(system, staged, scoop)
    low = system.tiers[Tier.LOW]
    low.delete([message for message in messages if message.id not in scoop.held])
    held = [(message, scoop.held[message.id]) for message in messages if message.id in scoop.held]
    now = system.clock.now()
    low.defer([(each, round(away_s(wait_s, each.receives, each.sent_at, (), now))) for each, wait_s in held])
    return [part for part, _ in staged], scoop.errors


def _close(system: System, staged: Sequence[tuple[PartRow, Sequence[Drawn]]], scoop: Scoop) -> None:
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


def _read(system: System, messages: Sequence[Message]) -> Scoop:
    scoop = Scoop()
    for message in messages:
        try:
            # Weighed here, because what cannot be rendered must not hold up a part.
            scoop.tasks += [Drawn(message, task, weigh(task)) for task in read_tasks(system, message)]
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


def _by_lot(system: System, tasks: Sequence[Drawn]) -> dict[tuple[Lot, str | None], list[Drawn]]:
    """Tasks of a tenant who is held go into parts of their own, which wait without keeping others waiting."""
    in_force = InForce.of(system.holds.active())
    lots: dict[tuple[Lot, str | None], list[Drawn]] = defaultdict(list)
    for drawn in tasks:
        tenant = drawn.task.tenant
        apart = in_force.apart(tenant, drawn.task.model)
        lots[lot_of(drawn.task), tenant if apart else None].append(drawn)
    return lots


def lot_of(task: AcceptedTask) -> Lot:
    return Lot(provider=task.provider, model=task.model, endpoint=task.endpoint)


def _by_turns(group: Sequence[Drawn]) -> list[list[Drawn]]:
    """Tenants with many tasks apart from each other and from the others, so that each can have its turns."""
    own = many(Counter(drawn.task.tenant for drawn in group))
    apart: dict[str, list[Drawn]] = defaultdict(list)
    for drawn in group:
        apart[drawn.task.tenant if drawn.task.tenant in own else SHARED].append(drawn)
    return list(apart.values())


def _slices(system: System, lot: Lot, group: Sequence[Drawn]) -> Iterator[list[Drawn]]:
    routes = system.routes
    most, most_tokens = routes.part_tasks(lot.model), routes.batch_tokens(lot.provider, lot.model)
    most_bytes, most_inputs = routes.batching.part_bytes, routes.provider(lot.provider).max_embedding_inputs
    held: list[Drawn] = []
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


def _open(system: System, lot: Lot, tenant: str | None, slice_: Sequence[Drawn]) -> PartRow:
    now = system.clock.now()
    digest = sha256("\n".join([now.isoformat(), *(drawn.task.origin for drawn in slice_)]).encode()).hexdigest()
    lease_until = now + timedelta(seconds=system.routes.batching.lease_s)
    with PartFile() as file:
        for drawn in first_copies(slice_):
            strikes = Strikes(spent_usd=drawn.task.spent_usd, unpriced=drawn.task.unpriced)
            file.add(PartLine(task=drawn.task, strikes=strikes), drawn.weight)
        changes = {"lease_until": lease_until, "tenant": tenant}
        part = file.row(f"p-{digest[:24]}", lot, now).model_copy(update=changes)
        file.put(system.objects, part)
    system.parts.apply([Change(part.part_id, Open(part))], now)
    return part
