"""Collect: an ended batch's files into settled tasks, a retry part, and a clean provider.

Each line is settled by a conditional write on its task's row and attempt, after its document is durable in a shard; a
second reading of the same files writes the same shards and changes nothing. Every shard but the last leaves a
checkpoint, where a turn that runs out of time stops and the next one goes on. What may yet succeed goes into a retry
part: durable, then claimed, then visible. The provider's files are deleted last, before the batch is done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from datetime import datetime
from functools import partial

import orjson

from lowtide.core.batches import (
    Away,
    BatchRow,
    BatchState,
    Checkpoint,
    Clean,
    Done,
    Progress,
    ProviderBatch,
    Unanswered,
)
from lowtide.core.collection import (
    Reading,
    bought_enough,
    named_faults,
    of_provider,
    refused_model,
    speaks_of_its_lines,
    suspects,
    took_none,
)
from lowtide.core.documents import charged, struck
from lowtide.core.errors import AccountRefused, ProviderRefused, Unreachable, safely_told
from lowtide.core.outcomes import Again, Answered, Bury, Outcome, Response
from lowtide.core.pace_rows import account_key
from lowtide.core.parts import PartLine
from lowtide.core.reported_usage import usage_of
from lowtide.core.result_files import lost, stops_account, why_away
from lowtide.core.structured import checked
from lowtide.core.tasks import Free, Strikes
from lowtide.ports import BatchApi, System

from .failures import SpooledFailures
from .finish import finish_parts
from .held import read_held
from .lease import LeasedBatch, leased
from .look import look
from .next_look import put_off
from .outlook import note_duration
from .rescue import Freed, free, told
from .restage import LinesAgain, send_again
from .result_files import ResultFiles, delete_files
from .sent import SentLines, sent_lines
from .settle import Diverged, End, Settlement, Withdrawn, tried
from .shards import deliver_again
from .submission_gate import batches_key_of, permit_of, refuse
from .tell import tell_batch
from .unread import UnreadLines


async def collect(system: System, row: BatchRow, *, hinted: bool = False, stop_at: datetime | None = None) -> BatchRow:
    """Looks at a submitted batch and takes it as far towards ``done`` as it goes now. ``hinted``: before its time.

    After ``stop_at`` it stops at the next checkpoint, still ``collecting``: the next turn goes on from there. Each
    turn comes at least one checkpoint further.
    """
    now = system.clock.now()
    if row.not_before is not None and now < row.not_before:
        return row
    if not hinted and row.state is BatchState.RUNNING and row.next_poll_at is not None and now < row.next_poll_at:
        return row
    with leased(system, row) as batch:
        if batch is None:
            return row
        try:
            await _Collection(system, batch, stop_at).advance()
        except (Unreachable, ProviderRefused) as error:
            system.metrics.log("provider_unreachable", batch_id=row.batch_id, reason=safely_told(error))
            _tell_operator(system, batch.row, error)
            put_off(system, batch)
        return batch.row


def _tell_operator(system: System, row: BatchRow, error: Unreachable | ProviderRefused) -> None:
    """Hold back what an operator has to act for: the account, or this lot's batches where only a file is barred."""
    of_account, why = stops_account(error), why_away(error)
    if of_account and isinstance(error, ProviderRefused):
        refuse(system, account_key(row.lot.provider), permit_of(system, row))
    if why is Away.BARRED and row.state is BatchState.COLLECTING:
        refuse(system, batches_key_of(row), permit_of(system, row))
    if of_account or (why is Away.BARRED and row.state is not BatchState.CLEANING):
        system.metrics.count("account_refused")


class _Collection:
    def __init__(self, system: System, batch: LeasedBatch, stop_at: datetime | None) -> None:
        self._system = system
        self._batch = batch
        self._stop_at = stop_at
        self._api: BatchApi = system.batch_apis[batch.row.lot.provider]
        self._refused: Again | None = None
        """Why the account is refused, if it is."""

    async def advance(self) -> None:
        if self._batch.row.state is BatchState.RUNNING:
            self._refused = await look(self._system, self._batch, self._api)
        if self._batch.row.state is BatchState.COLLECTING:
            await self._collect()
        if self._batch.row.state is BatchState.CLEANING:
            await self._clean()
        if self._refused is not None:
            self._system.metrics.count("account_refused")
            raise AccountRefused(self._refused.code, self._refused.message)

    async def _collect(self) -> None:
        row = self._batch.row
        with sent_lines(self._system, row) as sent:
            deliver_again(self._system, row, sent)
            try:
                await self._settle(sent, row.progress)
            except Diverged:
                self._system.metrics.log("collection_diverged", batch_id=row.batch_id)
                await self._settle(sent, None)

    async def _settle(self, sent: SentLines, resume: Progress | None) -> None:
        """One pass over the files, from the first shard that no checkpoint covers."""
        batch = self._batch
        row, provider_batch, _ = self._collected()
        settlement = Settlement(self._system, row, sent, resume)
        came_further = cut = False
        with SpooledFailures() as failed, LinesAgain() as again, LinesAgain() as freed, UnreadLines() as unread:
            reading = Reading(failed=failed, check=partial(_checked, sent), endpoint=row.lot.endpoint)
            files = ResultFiles(self._system, batch, provider_batch, sent, unread)
            async with aclosing(self._ends(sent, reading, files, again, freed)) as ends:
                async for end in ends:
                    if files.away is not None and not cut:
                        cut = self._cut(settlement)
                    if (progress := settlement.add(end)) is not None:
                        came_further = True
                        if not batch.apply(Checkpoint(batch.owner, progress)) or self._past():
                            return
            if files.away is not None and not cut:
                self._cut(settlement)
            settlement.finish()
            if files.away is not None:
                # What is in a file that came need not wait for the other one.
                send_again(self._system, row, again, halves=False, early=True)
                free(self._system, self._freed(freed), told(row))
                raise files.away
            if came_further and self._past():
                return
            send_again(self._system, row, again, halves=suspects(provider_batch), patiently=reading.outage)
            free(self._system, self._freed(freed), told(row))
            in_vain = settlement.tally.in_vain + reading.unused
            unread.keep(self._system, row)
            beside = {"retried": len(again), "rescued": len(freed), "in_vain": in_vain, "unread": unread.count}
            tally = settlement.tally.model_copy(update=beside)
        if batch.apply(Clean(batch.owner, tally)):
            self._report(len(sent), tally.answered)
        self._refused = again.refused or freed.refused
        if self._refused is not None:
            # An unnamed refusal inside a batch says nothing about calls.
            key = batches_key_of(row) if self._refused.doubt else account_key(row.lot.provider)
            refuse(self._system, key, permit_of(self._system, row))

    def _cut(self, settlement: Settlement) -> bool:
        progress = settlement.cut()
        if progress is not None:
            self._batch.apply(Checkpoint(self._batch.owner, progress))
        return True

    def _freed(self, lines: LinesAgain) -> Iterator[Freed]:
        row = self._batch.row
        holders = frozenset(row.part_ids)
        for each in lines.read(range(len(lines))):
            event = Free(holders, row.batch_id, each.attempt, each.line.strikes, unsure=int(each.unsure))
            yield Freed(each.size, each.line, event)

    async def _ends(
        self, sent: SentLines, reading: Reading, files: ResultFiles, again: LinesAgain, freed: LinesAgain
    ) -> AsyncGenerator[End]:
        """Every line that this batch ends, in an order that its files alone decide; the others go to ``again``, or to
        ``freed`` where another batch would bring them too late."""
        row, provider_batch, collected_at = self._collected()
        faults, of_all = named_faults(provider_batch), refused_model(provider_batch)
        for number, custom_id in enumerate(sent, start=1):
            if (bury := faults.get(number, of_all)) is not None:
                reading.finished.add(custom_id)
                yield End(custom_id, bury, None, 0)
        if provider_batch.id and not row.released:
            async for read, size in files.lines():
                if (finished := reading.take(read, sent)) is not None:
                    strikes = self._charged(sent, finished.custom_id, finished.outcome, finished.response, reading)
                    yield End(finished.custom_id, finished.outcome, finished.response, size, strikes)
        in_force = read_held(self._system, row)
        culprit = suspects(provider_batch) and len(sent) == 1 and not took_none(provider_batch)
        shared = speaks_of_its_lines(provider_batch) and len(sent) > 1
        why_lost = lost(self._batch.row)
        for custom_id, outcome, response in reading.unanswered(
            sent, provider_batch, given_up=row.released, lost=why_lost
        ):
            if files.away is not None and custom_id not in reading.failed:
                continue
            if isinstance(outcome, Bury):
                yield End(custom_id, outcome, response, _size(response))
                continue
            paid = self._charged(sent, custom_id, outcome, response, reading)
            if row.stop is Unanswered.CANCEL:
                yield End(custom_id, Withdrawn(), None, 0, paid, outcome.unsure)
                continue
            line = sent[custom_id]
            before = paid or line.line.strikes
            forgiven = reading.outage and of_provider(outcome, response) and not before.exhausted
            # Where another line is at fault, a call tells the culprit from the innocent: their last try is kept for it.
            blameless = shared and response is None and before.failures + 1 >= row.tries
            counts = outcome.counts and not forgiven and not blameless
            strikes = struck(before, collected_at, counts=counts, forgiven=forgiven, unsure=outcome.unsure)
            if strikes.failures < row.tries and not culprit:
                task, model = line.line.task, row.lot.model
                too_soon = row.real_time_before is not None and task.deadline_at < row.real_time_before
                by_call = too_soon or (outcome.counts and blameless) or bought_enough(strikes, row.tries)
                goes_on = PartLine(task=task, strikes=strikes)
                # Nothing is spent on it while it is held, and least of all a premium.
                to = freed if by_call and not in_force.stops(task.tenant, model) else again
                to.add(line.attempt, goes_on, outcome, apart=in_force.apart(task.tenant, model))
            else:
                bury = Bury(outcome.code, outcome.message)
                yield End(custom_id, bury, response, _size(response), strikes, outcome.unsure)

    def _charged(
        self, sent: SentLines, custom_id: str, outcome: Outcome, response: Response | None, reading: Reading
    ) -> Strikes | None:
        """The line's strikes with what this answer cost, where it was billed and is none."""
        if not isinstance(outcome, Again | Bury) or not outcome.billed or response is None:
            return None
        line = sent[custom_id]
        reading.unused += usage_of(response.body, line.line.task.endpoint)
        row, _, at = self._collected()
        attempt = tried(self._system, row, line)
        return charged(line.line.task, attempt, response, self._system.seller(row.lot.provider), at)

    def _collected(self) -> tuple[BatchRow, ProviderBatch, datetime]:
        row = self._batch.row
        if row.provider_batch is None or row.collected_at is None:
            raise AssertionError("a batch is collected from what the provider said of it")
        return row, row.provider_batch, row.collected_at

    def _past(self) -> bool:
        return self._stop_at is not None and self._system.clock.now() >= self._stop_at

    def _report(self, requests: int, answered: int) -> None:
        metrics = self._system.metrics
        metrics.count("batch_lines", requests)
        metrics.count("batch_lines_failed", requests - answered)

    async def _clean(self) -> None:
        row = self._batch.row
        if not finish_parts(self._system, row):
            return
        await delete_files(self._system, self._api, row)
        note_duration(self._system, row)
        tell_batch(self._system, row)
        self._batch.apply(Done(self._batch.owner))
        self._system.metrics.log("batch_done", batch_id=row.batch_id, tally=row.tally.model_dump())


def _checked(sent: SentLines, custom_id: str, response: Response | None) -> Outcome:
    task = sent.validated(custom_id)
    return Answered() if task is None else checked(Answered(), response, task)


def _size(response: Response | None) -> int:
    return 0 if response is None else len(orjson.dumps(response))
