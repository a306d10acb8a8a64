"""Seal: ready parts become a batch, and its file is written once.

The batch's row comes first, naming the parts that it wants; each part joins by a write on its own row; the file holds
the lines of those that joined whose task's claim names them, with like beginnings side by side. It is a pure function
of the rows, so that doing it again after a crash writes the same bytes.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import BinaryIO

from lowtide.core.batches import BatchRow, BatchState, Done, Seal, Start
from lowtide.core.enqueued import Pool, admitted, committed, pool_of
from lowtide.core.errors import NewerSchema
from lowtide.core.holds import InForce
from lowtide.core.lanes import Lane
from lowtide.core.lines import estimated_tokens, request_line
from lowtide.core.manifest import ManifestLine
from lowtide.core.offpeak import next_open
from lowtide.core.open_batches import within_cap
from lowtide.core.parts import Join, Lot, PartLine, PartRow, PartState, PartVerdict
from lowtide.core.portions import portions
from lowtide.core.prefixes import prefix_key
from lowtide.core.prompts import request_body
from lowtide.core.sealing import SealLimits, plan
from lowtide.core.task import custom_id
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Change, System

from .apart import apart
from .finish import finish_parts
from .lease import LeasedBatch, leased
from .line_order import LinesInOrder
from .newer import rows_or_newer
from .outlook import Outlook
from .part_file import READ_BYTES, READ_ROWS, placed
from .time_left import past
from .token_room import enqueued_limit
from .turn_notes import note_turns, turns_taken

HEADROOM = 0.95
"""Of the provider's size limit: a part's bytes are an estimate."""


def seal(system: System, *, flush: bool = False, stop_at: datetime | None = None) -> list[BatchRow]:
    """Starts the batches that are due and seals every batch that is open, until ``stop_at``: the next turn seals the
    rest. Returns those it sealed. No lot and no batch that fails keeps the others waiting; raises what went wrong at
    the end."""
    now = system.clock.now()
    active = system.batches.active()
    errors: list[Exception] = []
    groups = _due(system, active, now, errors, flush=flush)
    sealed = []
    for row in [*(row for row in active if row.state is BatchState.OPEN), *_start_each(system, groups, now, errors)]:
        if past(system, stop_at):
            break
        with (
            apart(system, errors, "batch_step_failed", batch_id=row.batch_id, state=row.state.value),
            leased(system, row) as batch,
        ):
            if batch is not None and batch.row.state is BatchState.OPEN and _complete(system, batch):
                sealed.append(batch.row)
    _publish_fill(system, sealed)
    if errors:
        raise ExceptionGroup(f"{len(errors)} lots or batches could not be sealed", errors)
    return sealed


def _due(
    system: System, active: Sequence[BatchRow], now: datetime, errors: list[Exception], *, flush: bool
) -> list[Sequence[PartRow]]:
    """The parts of each batch to be started, as far as open batches and enqueued tokens leave room."""
    parts = system.parts.active()
    in_force = InForce.of(system.holds.active())
    ready = [part for part in parts if part.ready(now) and not in_force.holds(part)]
    if not ready:
        system.metrics.count("tasks_waiting_for_tokens", 0)
        return []
    depth = None if flush else _depth(system, ready)
    outlook = Outlook(system)
    enqueued: dict[Pool, int | None] = {}
    limits: dict[Lot, SealLimits] = {}
    for lot in {part.lot for part in ready}:
        # A provider may have left the routes while parts wait for it: they stay where they are.
        with apart(system, errors, "lot_failed", provider=lot.provider, model=lot.model):
            pool = pool_of(lot)
            enqueued[pool] = enqueued_limit(system, pool)
            limits[lot] = _limits(system, outlook, lot, depth, enqueued[pool])
    ready = [part for part in ready if part.lot in limits]
    taken = turns_taken(system, [part for part in parts if part.state is PartState.JOINED], now)
    groups = plan(ready, taken, limits, now, flush=flush)
    fitting = admitted(groups, {pool: committed(active, pool) for pool in enqueued}, enqueued)
    waiting = sum(part.tasks for group in groups for part in group) - sum(
        part.tasks for group in fitting for part in group
    )
    system.metrics.count("tasks_waiting_for_tokens", waiting)
    return within_cap(fitting, active, system.routes.batching.max_open_batches)


def _depth(system: System, ready: Sequence[PartRow]) -> int:
    """What waits to be batched; a message on the queue counts as one task, though it may carry many."""
    return system.tiers[Tier.LOW].depth().visible + sum(part.tasks for part in ready)


def _publish_fill(system: System, sealed: Sequence[BatchRow]) -> None:
    """How full the batches of this turn are on average, by model: small ones cost calls and provider limits."""
    fills: dict[str, list[float]] = defaultdict(list)
    for row in sealed:
        if row.lot.provider not in system.routes.providers:
            continue  # it has left the routes since the batch was started
        provider, batching = system.routes.provider(row.lot.provider), system.routes.batching
        fills[row.lot.model].append(row.requests / min(provider.max_requests, batching.max_requests))
    for model, shares in fills.items():
        system.metrics.count("batch_fill", sum(shares) / len(shares), model=model)


def _limits(system: System, outlook: Outlook, lot: Lot, depth: int | None, enqueued: int | None) -> SealLimits:
    """``depth`` None: no more is coming, so that nothing but the limits decides on a size."""
    provider, batching = system.routes.provider(lot.provider), system.routes.batching
    size = system.routes.model(lot.model).batch_size
    if size is None:
        size = batching.max_requests if depth is None else batching.size_at(depth)
    tokens = system.routes.batch_tokens(lot.provider, lot.model)
    cheaper = next_open(provider.off_peak, Lane.BATCH, system.clock.now())
    return SealLimits(
        requests=min(provider.max_requests, batching.max_requests, size),
        inputs=provider.max_embedding_inputs,
        bytes=int(min(provider.max_bytes, batching.max_bytes) * HEADROOM),
        tokens=tokens if enqueued is None else min(tokens, enqueued),
        max_wait=timedelta(seconds=batching.max_wait_s),
        deadline_margin=partial(outlook.seal_by, lot),
        cheaper_at=None if cheaper is None else cheaper.opens,
    )


def _start_each(
    system: System, groups: Sequence[Sequence[PartRow]], now: datetime, errors: list[Exception]
) -> list[BatchRow]:
    rows: list[BatchRow] = []
    started: list[PartRow] = []
    for group in groups:
        lot = group[0].lot
        with apart(system, errors, "lot_failed", provider=lot.provider, model=lot.model):
            rows.append(_start(system, group, now))
            started += group
    if started:
        note_turns(system, started, now)
    return rows


def _start(system: System, parts: Sequence[PartRow], now: datetime) -> BatchRow:
    part_ids = tuple(sorted(part.part_id for part in parts))
    digest = sha256("\n".join([now.isoformat(), *part_ids]).encode()).hexdigest()
    row = BatchRow(
        batch_id=f"b-{digest[:24]}",
        lot=parts[0].lot,
        part_ids=part_ids,
        created_at=now,
        tightest_deadline=min(part.tightest_deadline for part in parts),
        tokens=sum(part.tokens for part in parts),
    )
    [decision] = system.batches.apply([Change(row.batch_id, Start(row))], now)
    if decision.row is None:
        raise AssertionError("a started batch has a row")
    return decision.row


def _complete(system: System, batch: LeasedBatch) -> bool:
    """Joins, renders, seals. False where there was nothing left to send, or another took the lease."""
    row = batch.row
    joined = _join(system, row)
    with tempfile.TemporaryFile() as lines, tempfile.TemporaryFile() as manifest:
        requests, size, tokens = _render(system, row, joined, lines, manifest)
        if requests == 0:
            if finish_parts(system, row):
                batch.apply(Done(batch.owner))
            return False
        seal_event = Seal(
            owner=batch.owner,
            file_key=f"batches/{row.batch_id}/input.jsonl",
            manifest_key=f"batches/{row.batch_id}/manifest.jsonl",
            requests=requests,
            bytes=size,
            tokens=tokens,
        )
        for key, content in ((seal_event.file_key, lines), (seal_event.manifest_key, manifest)):
            content.seek(0)
            system.objects.put(key, content)
    return batch.apply(seal_event)


def _join(system: System, row: BatchRow) -> list[PartRow]:
    parts = system.parts.get(row.part_ids)
    changes = [Change(part_id, Join(row.batch_id), part) for part_id, part in zip(row.part_ids, parts, strict=True)]
    decisions = system.parts.apply(changes, system.clock.now())
    # A part that is done already was given up as empty, in a life that died before it said so: its drain carries on.
    return [
        d.row
        for d in decisions
        if d.verdict is not PartVerdict.STALE and d.row is not None and d.row.state is PartState.JOINED
    ]


def _render(
    system: System, row: BatchRow, parts: Sequence[PartRow], lines: BinaryIO, manifest: BinaryIO
) -> tuple[int, int, int]:
    """(requests, bytes, tokens) of what it wrote. A task that stands in two lines is asked once."""
    size = tokens = 0
    seen: set[str] = set()
    with LinesInOrder() as ordered:
        for part, offset, length, line, attempt in _claimed(system, parts):
            task = line.task
            if task.key in seen:
                continue
            seen.add(task.key)
            body = request_body(task)
            ours = custom_id(task.tenant, task.task_id, attempt)
            data = request_line(ours, row.lot.endpoint, body)
            entry = ManifestLine(custom_id=ours, attempt=attempt, part_id=part.part_id, offset=offset, length=length)
            ordered.add(prefix_key(body), data, entry.model_dump_json().encode() + b"\n")
            size += len(data)
            tokens += estimated_tokens(body, len(data))
        ordered.write(lines, manifest)
    return len(seen), size, tokens


def _claimed(system: System, parts: Sequence[PartRow]) -> Iterator[tuple[PartRow, int, int, PartLine, int]]:
    """(part, offset, length, line, attempt) of every line whose task's claim names its part."""
    for part in sorted(parts, key=lambda part: part.part_id):
        found = placed(system.objects.lines(part.object_key))
        for portion in portions(found, lambda each: len(each[1]), most=READ_ROWS, most_bytes=READ_BYTES):
            lines = [PartLine.model_validate_json(raw) for _, raw in portion]
            rows = rows_or_newer(system.tasks, [line.task.key for line in lines])
            for (offset, raw), line, task_row in zip(portion, lines, rows, strict=True):
                if isinstance(task_row, NewerSchema):
                    continue  # ``finish_parts`` keeps its place until the newer release takes it on
                if task_row is None or task_row.state is not TaskState.STAGED or task_row.holder != part.part_id:
                    continue
                if task_row.speaks_of(line.task):
                    yield part, offset, len(raw), line, task_row.attempt
