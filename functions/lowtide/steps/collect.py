"""Collect: an ended batch's files into settled tasks, a retry part, and a clean provider.

Each line is settled by a conditional write on its task's row and attempt, after its document is durable in a shard; a
second reading of the same files writes the same shards and changes nothing. What may yet succeed goes into a retry
part: durable, then claimed, then visible. The provider's files are deleted last, before the batch is done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import count

from lowtide.core import documents
from lowtide.core.batches import (
    BatchRow,
    BatchState,
    BatchTally,
    Clean,
    Collect,
    Done,
    ProviderBatch,
    ProviderStatus,
    Return,
    Seen,
    Unanswered,
)
from lowtide.core.cancellations import cancelled
from lowtide.core.collection import Finished, Reading, named_faults, suspects, token_limit_wait_s, took_none
from lowtide.core.documents import Try
from lowtide.core.errors import AccountRefused, ProviderRefused, Unreachable
from lowtide.core.lanes import Lane
from lowtide.core.lines import parse_result_line
from lowtide.core.manifest import ManifestLine
from lowtide.core.outcomes import Again, Answered, Bury, Response, backoff_s
from lowtide.core.parts import Open, PartLine, PartState
from lowtide.core.receipts import Receipt
from lowtide.core.records import Pointer, ResultDocument, Status
from lowtide.core.tasks import Decision, Restage, Settle, Strikes, TaskEvent, TaskRow, Verdict
from lowtide.ports import BatchApi, Change, System

from .deliver import own_entry, task_entry
from .drain import part_row, write_part
from .finish import finish_parts
from .lease import LeasedBatch, leased
from .letters import send_letters
from .submit import ACCOUNT_WAIT_S

SHARD_LINES = 500
"""Documents in one object, one settling call and one ledger entry."""

LOST_AFTER = timedelta(hours=48)
"""How long a provider may answer that it does not know a batch that it made, before its lines count as missing and are
bought again, counted as repaid: longer than any batch is promised to take."""


async def collect(system: System, row: BatchRow, *, hinted: bool = False) -> BatchRow:
    """Looks at a submitted batch and takes it as far towards ``done`` as it goes now. ``hinted``: before its time."""
    now = system.clock.now()
    if not hinted and row.state is BatchState.RUNNING and row.next_poll_at is not None and now < row.next_poll_at:
        return row
    with leased(system, row) as batch:
        if batch is None:
            return row
        try:
            await _Collection(system, batch).advance()
        except (Unreachable, ProviderRefused) as error:
            system.metrics.log("provider_unreachable", batch_id=row.batch_id, reason=str(error))
            _look_later(system, batch, batch.row.provider_batch)
        return batch.row


def _look_later(system: System, batch: LeasedBatch, seen: ProviderBatch | None) -> None:
    batching = system.routes.batching
    if batch.row.state is BatchState.RUNNING and seen is not None:
        wait = min(batching.poll_max_s, batching.poll_first_s * 2.0 ** min(batch.row.polls, 20))
        batch.apply(Seen(batch.owner, seen, system.clock.now() + timedelta(seconds=wait)))


@dataclass(frozen=True, slots=True)
class _Sent:
    """A line that the batch sent."""

    number: int
    entry: ManifestLine
    line: PartLine
    unsure: int = 0


@dataclass(frozen=True, slots=True)
class _Failed:
    """A line that goes again: as it was sent, as it goes on, and why."""

    sent: _Sent
    line: PartLine
    why: Again


class _Collection:
    def __init__(self, system: System, batch: LeasedBatch) -> None:
        self._system = system
        self._batch = batch
        self._api: BatchApi = system.batch_apis[batch.row.lot.provider]
        self._shards = count()
        self._tally = BatchTally()
        self._refused: Again | None = None

    async def advance(self) -> None:
        if self._batch.row.state is BatchState.RUNNING and not await self._look():
            return
        if self._batch.row.state is BatchState.COLLECTING:
            await self._collect()
        if self._batch.row.state is BatchState.CLEANING:
            await self._clean()
        if self._refused is not None:
            self._system.metrics.count("account_refused")
            raise AccountRefused(f"{self._refused.code}: {self._refused.message}")

    async def _look(self) -> bool:
        """Has it ended, and is it now ours to collect?"""
        batch, now = self._batch, self._system.clock.now()
        known = batch.row.provider_batch
        if known is None:
            raise AssertionError("a running batch is known at the provider")
        seen = await self._api.get(known.id) if known.id else known
        if seen is None:
            if batch.row.submitted_at is not None and now < batch.row.submitted_at + LOST_AFTER:
                _look_later(self._system, batch, known)
                return False
            self._system.metrics.log("batch_unknown_at_provider", batch_id=batch.row.batch_id)
            seen = known
        elif not seen.ended:
            if batch.row.stop is not None and seen.status is not ProviderStatus.CANCELLING:
                await self._api.cancel(known.id)
            _look_later(self._system, batch, seen)
            return False
        if took_none(seen):
            await self._api.clean([ref for ref in (batch.row.input_ref,) if ref])
            wait = token_limit_wait_s(batch.row.setbacks)
            self._system.metrics.log("token_limit", batch_id=batch.row.batch_id, wait_s=wait)
            batch.apply(Return(batch.owner, now + timedelta(seconds=wait)))
            return False
        return batch.apply(Collect(batch.owner, seen))

    async def _collect(self) -> None:
        row = self._batch.row
        provider_batch = row.provider_batch
        if provider_batch is None or row.collected_at is None:
            raise AssertionError("a batch is collected from what the provider said of it")
        sent = self._sent()
        reading = Reading()
        shard: list[tuple[_Sent, ResultDocument]] = []
        async for finished in self._finished(reading, sent, provider_batch):
            line = sent[finished.custom_id]
            shard.append((line, self._document(line, finished.outcome, finished.response, line.line.strikes)))
            if len(shard) == SHARD_LINES:
                self._settle(shard)
                shard = []
        again: list[_Failed] = []
        for custom_id, outcome, response in reading.unanswered(sent, provider_batch):
            line = sent[custom_id]
            if row.stop is Unanswered.CANCEL:
                shard.append((line, self._cancelled(line)))
                continue
            strikes = documents.struck(line.line.strikes, row.collected_at, counts=outcome.counts)
            culprit = suspects(provider_batch) and len(sent) == 1
            if strikes.failures < self._system.routes.retries.attempts and not culprit:
                again.append(_Failed(line, PartLine(task=line.line.task, strikes=strikes), outcome))
            else:
                bury = Bury(outcome.code, outcome.message)
                unsure = replace(line, unsure=int(outcome.unsure))
                shard.append((unsure, self._document(line, bury, response, strikes)))
        for start in range(0, len(shard), SHARD_LINES):
            self._settle(shard[start : start + SHARD_LINES])
        if suspects(provider_batch):
            half = (len(again) + 1) // 2
            self._retry(again[:half], row.collected_at, "-1")
            self._retry(again[half:], row.collected_at, "-2")
        else:
            self._retry(again, row.collected_at)
        self._report(len(sent), reading.unknown)
        self._batch.apply(Clean(self._batch.owner, self._tally.model_copy(update={"retried": len(again)})))
        self._refused = next((failed.why for failed in again if failed.why.account), None)

    def _sent(self) -> dict[str, _Sent]:
        """What the batch sent, by ``custom_id``, in the order of its file."""
        row = self._batch.row
        if row.manifest_key is None:
            raise AssertionError("a sealed batch has its manifest")
        parts = {part.part_id: part for part in self._system.parts.get(row.part_ids) if part is not None}
        entries = [ManifestLine.model_validate_json(raw) for raw in self._system.objects.lines(row.manifest_key)]
        content = {part_id: self._system.objects.get(part.object_key) for part_id, part in parts.items()}
        sent = {}
        for number, entry in enumerate(entries, start=1):
            raw = content[entry.part_id][entry.offset : entry.offset + entry.length]
            sent[entry.custom_id] = _Sent(number, entry, PartLine.model_validate_json(raw))
        return sent

    async def _finished(
        self, reading: Reading, sent: dict[str, _Sent], provider_batch: ProviderBatch
    ) -> AsyncIterator[Finished]:
        faults = named_faults(provider_batch)
        for custom_id, line in sent.items():
            if (bury := faults.get(line.number)) is not None:
                reading.finished.add(custom_id)
                yield Finished(custom_id, bury, None)
        if not provider_batch.id:
            return
        async for raw in self._api.results(provider_batch):
            if (finished := reading.take(parse_result_line(raw), sent)) is not None:
                yield finished

    def _document(
        self, sent: _Sent, outcome: Answered | Bury, response: Response | None, strikes: Strikes
    ) -> ResultDocument:
        row = self._batch.row
        if row.collected_at is None:
            raise AssertionError("collecting has begun")
        reason = f"{sent.line.task.route}; batched at half price"
        attempt = Try(sent.entry.attempt, Lane.BATCH, reason, strikes, batch_id=self._provider_batch_id())
        task = sent.line.task
        match outcome:
            case Answered():
                if response is None:
                    raise AssertionError("an answer has a response")
                return documents.answered(task, attempt, response, self._system.prices, row.collected_at)
            case Bury(code, message):
                return documents.dead(task, attempt, code, message, response, row.collected_at)

    def _cancelled(self, sent: _Sent) -> ResultDocument:
        row = self._batch.row
        if row.collected_at is None:
            raise AssertionError("collecting has begun")
        return cancelled(
            sent.line.task,
            attempts=sent.entry.attempt,
            spent_usd=sent.line.strikes.spent_usd,
            now=row.collected_at,
            batch_id=self._provider_batch_id(),
        )

    def _provider_batch_id(self) -> str | None:
        provider_batch = self._batch.row.provider_batch
        return provider_batch.id if provider_batch is not None and provider_batch.id else None

    def _settle(self, shard: Sequence[tuple[_Sent, ResultDocument]]) -> None:
        """Durable, then settled, then counted and sent. All of it may be repeated."""
        system, row = self._system, self._batch.row
        lines = [document.model_dump_json().encode() + b"\n" for _, document in shard]
        content = b"".join(lines)
        # The digest keeps a shard that rows point to from being replaced, should prices change between two readings.
        name = f"{row.batch_id}/{next(self._shards):05d}-{sha256(content).hexdigest()[:12]}"
        key = f"results/{name}.jsonl"
        system.objects.put(key, content)
        holders = frozenset(row.part_ids)
        changes: list[Change[TaskRow, TaskEvent]] = []
        offset = 0
        for (sent, document), line in zip(shard, lines, strict=True):
            pointer = Pointer(key=key, offset=offset, length=len(line))
            changes.append(Change(sent.line.task.key, _settling(sent, document, holders, pointer)))
            offset += len(line)
        decisions = system.tasks.apply(changes, system.clock.now())
        settled = [
            (sent, document, decision.row)
            for (sent, document), decision in zip(shard, decisions, strict=True)
            if decision.verdict in (Verdict.APPLIED, Verdict.REPEATED) and decision.row is not None
        ]
        receipts = [(own_entry(row_), Receipt.of(document.record, repaid=row_.repaid)) for _, document, row_ in settled]
        letters = [
            (f"{document.record.id} {row_.generation}", document.letter)
            for _, document, row_ in settled
            if document.letter is not None
        ]
        replies = [
            (sent.line.task.reply_to, document.record.model_dump_json())
            for sent, document, _ in settled
            if sent.line.task.reply_to is not None
        ]
        send_letters(system, letters)
        if replies:
            system.replies.send(replies)
        together = [(f"batch/{name}", Receipt.sum(receipt for entry, receipt in receipts if entry is None))]
        system.ledger.put(together + [(entry, receipt) for entry, receipt in receipts if entry is not None])
        self._count(Receipt.sum(receipt for _, receipt in receipts))
        self._count_in_vain(shard, decisions)

    def _count(self, receipt: Receipt) -> None:
        counts = {status: getattr(receipt, status.value) for status in Status}
        self._tally = self._tally.model_copy(
            update={status.value: getattr(self._tally, status.value) + amount for status, amount in counts.items()}
        )
        for status, amount in counts.items():
            if amount:
                self._system.metrics.count("tasks_settled", amount, tier="LOW", status=status.value)
        self._system.metrics.count("cost_usd", float(receipt.cost_usd), tier="LOW")
        self._system.metrics.count("list_cost_usd", float(receipt.list_cost_usd), tier="LOW")

    def _count_in_vain(self, shard: Sequence[tuple[_Sent, ResultDocument]], decisions: Sequence[Decision]) -> None:
        """Answers to tasks that were cancelled while their lines ran: nobody gets them, and they were billed."""
        entries = []
        for (_, document), decision in zip(shard, decisions, strict=True):
            row = decision.row
            if decision.verdict is not Verdict.IN_VAIN or row is None or row.document is None:
                continue
            usage = document.record.usage
            self._tally = self._tally.model_copy(update={"in_vain": self._tally.in_vain + usage})
            entries.append((task_entry(row), Receipt.of(row.document.record, repaid=row.repaid)))
            if decision.changed:
                self._system.metrics.count("repaid")
        if entries:
            self._system.ledger.put(entries)

    def _retry(self, again: Sequence[_Failed], collected_at: datetime, half: str = "") -> None:
        """Durable, then claimed, then visible: a pure function of the batch's input and output."""
        if not again:
            return
        system, row = self._system, self._batch.row
        part_id = f"r-{row.batch_id}{half}"
        lines = [failed.line for failed in again]
        retries = system.routes.retries
        # By attempts, counted or not: what comes back again and again comes back later each time.
        worst = max(failed.sent.entry.attempt for failed in again)
        wait = backoff_s(worst, base_s=retries.batch_base_s, cap_s=retries.cap_s, seed=part_id)
        if any(failed.why.account for failed in again):
            wait = max(wait, ACCOUNT_WAIT_S)
        part = part_row(system, part_id, row.lot, lines, collected_at).model_copy(
            update={
                "state": PartState.CLOSED,
                "not_before": collected_at + timedelta(seconds=wait),
                "alone": bool(half),
            }
        )
        write_part(system, part, lines)
        holders = frozenset(row.part_ids)
        changes: list[Change[TaskRow, TaskEvent]] = [
            Change(
                failed.line.task.key,
                Restage(
                    failed.sent.entry.attempt, holders, part_id, failed.line.strikes, unsure=int(failed.why.unsure)
                ),
            )
            for failed in again
        ]
        now = system.clock.now()
        system.tasks.apply(changes, now)
        system.parts.apply([Change(part_id, Open(part))], now)

    def _report(self, requests: int, unknown: int) -> None:
        metrics = self._system.metrics
        metrics.count("batch_lines", requests)
        metrics.count("batch_lines_failed", requests - self._tally.answered)
        if unknown:
            metrics.count("unknown_lines", unknown)
            metrics.log("unknown_lines", batch_id=self._batch.row.batch_id, lines=unknown)

    async def _clean(self) -> None:
        row = self._batch.row
        finish_parts(self._system, row)
        seen = row.provider_batch
        refs = [row.input_ref, seen.output_ref if seen else None, seen.error_ref if seen else None]
        await self._api.clean([ref for ref in refs if ref])
        self._batch.apply(Done(self._batch.owner))
        self._system.metrics.log("batch_done", batch_id=row.batch_id, tally=row.tally.model_dump())


def _settling(sent: _Sent, document: ResultDocument, holders: frozenset[str], pointer: Pointer) -> Settle:
    record = document.record
    return Settle(
        holders=holders,
        attempt=sent.entry.attempt,
        status=record.status,
        lane=record.lane,
        error_code=record.error.code if record.error else None,
        pointer=pointer,
        unsure=sent.unsure,
    )
