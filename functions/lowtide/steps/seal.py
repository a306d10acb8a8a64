"""Seal: ready parts become a batch, and its file is written once.

The batch's row comes first, naming the parts that it wants; each part joins by a write on its own row; the file holds
the lines of those that joined whose task's claim names them. It is a pure function of the rows, so that doing it again
after a crash writes the same bytes.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import BinaryIO

from lowtide.core.batches import BatchRow, BatchState, Done, Seal, SealLimits, Start, choose_parts
from lowtide.core.errors import safely_told
from lowtide.core.lines import estimated_tokens, request_line
from lowtide.core.manifest import ManifestLine
from lowtide.core.parts import Join, Lot, PartLine, PartRow, PartState, PartVerdict
from lowtide.core.portions import portions
from lowtide.core.prompts import request_body
from lowtide.core.task import custom_id
from lowtide.core.tasks import TaskState
from lowtide.ports import Change, System

from .finish import finish_parts
from .lease import LeasedBatch, leased
from .part_file import READ_BYTES, READ_ROWS, placed

HEADROOM = 0.95
"""Of the provider's size limit: a part's bytes are an estimate."""


def seal(system: System, *, flush: bool = False) -> list[BatchRow]:
    """Starts the batches that are due and seals every batch that is open. Returns those it sealed."""
    now = system.clock.now()
    active = system.batches.active()
    room = system.routes.batching.max_open_batches - len(active)
    started: list[BatchRow] = []
    for lot, parts in _ready(system, now).items():
        groups = choose_parts(parts, _limits(system, lot), now, flush=flush)
        started += [_start(system, lot, group, now) for group in groups[: max(0, room - len(started))]]
    sealed = []
    errors = []
    for row in [*(row for row in active if row.state is BatchState.OPEN), *started]:
        try:
            with leased(system, row) as batch:
                if batch is not None and batch.row.state is BatchState.OPEN and _complete(system, batch):
                    sealed.append(batch.row)
        except Exception as error:  # noqa: BLE001 - raised again below: one batch must not keep the others waiting
            system.metrics.log(
                "batch_step_failed", batch_id=row.batch_id, state=row.state.value, error=safely_told(error)
            )
            errors.append(error)
    _publish_fill(system, sealed)
    if errors:
        raise ExceptionGroup(f"{len(errors)} batches could not be sealed", errors)
    return sealed


def _publish_fill(system: System, sealed: Sequence[BatchRow]) -> None:
    """How full the batches of this turn are on average, by model: small ones cost calls and provider limits."""
    fills: dict[str, list[float]] = defaultdict(list)
    for row in sealed:
        fills[row.lot.model].append(row.requests / _limits(system, row.lot).requests)
    for model, shares in fills.items():
        system.metrics.count("batch_fill", sum(shares) / len(shares), model=model)


def _ready(system: System, now: datetime) -> dict[Lot, list[PartRow]]:
    lots: dict[Lot, list[PartRow]] = defaultdict(list)
    for part in system.parts.active():
        if part.ready(now):
            lots[part.lot].append(part)
    return lots


def _limits(system: System, lot: Lot) -> SealLimits:
    provider, batching = system.routes.provider(lot.provider), system.routes.batching
    return SealLimits(
        requests=min(provider.max_requests, batching.max_requests),
        inputs=provider.max_embedding_inputs,
        bytes=int(min(provider.max_bytes, batching.max_bytes) * HEADROOM),
        tokens=batching.max_tokens,
        max_wait=timedelta(seconds=batching.max_wait_s),
        deadline_margin=timedelta(seconds=2 * batching.max_wait_s),
    )


def _start(system: System, lot: Lot, parts: Sequence[PartRow], now: datetime) -> BatchRow:
    part_ids = tuple(sorted(part.part_id for part in parts))
    digest = sha256("\n".join([now.isoformat(), *part_ids]).encode()).hexdigest()
    row = BatchRow(
        batch_id=f"b-{digest[:24]}",
        lot=lot,
        part_ids=part_ids,
        created_at=now,
        tightest_deadline=min(part.tightest_deadline for part in parts),
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
            finish_parts(system, row)
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
    requests = size = tokens = 0
    seen: set[str] = set()
    for part, offset, length, line, attempt in _claimed(system, parts):
        task = line.task
        if task.key in seen:
            continue
        seen.add(task.key)
        body = request_body(task)
        ours = custom_id(task.tenant, task.task_id, attempt)
        data = request_line(ours, row.lot.endpoint, body)
        lines.write(data)
        entry = ManifestLine(custom_id=ours, attempt=attempt, part_id=part.part_id, offset=offset, length=length)
        manifest.write(entry.model_dump_json().encode() + b"\n")
        requests += 1
        size += len(data)
        tokens += estimated_tokens(body, len(data))
    return requests, size, tokens


def _claimed(system: System, parts: Sequence[PartRow]) -> Iterator[tuple[PartRow, int, int, PartLine, int]]:
    """(part, offset, length, line, attempt) of every line whose task's claim names its part."""
    for part in sorted(parts, key=lambda part: part.part_id):
        found = placed(system.objects.lines(part.object_key))
        for portion in portions(found, lambda each: len(each[1]), most=READ_ROWS, most_bytes=READ_BYTES):
            lines = [PartLine.model_validate_json(raw) for _, raw in portion]
            rows = system.tasks.get([line.task.key for line in lines])
            for (offset, raw), line, task_row in zip(portion, lines, rows, strict=True):
                if task_row is not None and task_row.state is TaskState.STAGED and task_row.holder == part.part_id:
                    yield part, offset, len(raw), line, task_row.attempt
