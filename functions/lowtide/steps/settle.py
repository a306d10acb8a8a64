"""Settle: the ends of a batch's lines, shard by shard: durable, then settled, then counted and sent.

A shard is a function of the batch's files. Read again they give the same shards in the same order, so that those
which a checkpoint covers are passed over without being made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from lowtide.core import documents
from lowtide.core.batches import BatchRow, BatchTally, Progress
from lowtide.core.cancellations import cancelled
from lowtide.core.documents import Try
from lowtide.core.endings import Ending
from lowtide.core.errors import NewerSchema
from lowtide.core.lanes import Lane
from lowtide.core.offpeak import open_now
from lowtide.core.outcomes import Answered, Bury, Response
from lowtide.core.receipts import Receipt
from lowtide.core.records import Pointer, ResultDocument, Status
from lowtide.core.tasks import Decision, Settle, Strikes, TaskEvent, TaskRow, Verdict
from lowtide.ports import Change, System

from .in_vain import count_in_vain
from .newer import each_or_newer
from .sent import Sent, SentLines
from .shards import deliver_shard

SHARD_LINES = 500
"""Documents in one object, one settling call and one ledger entry."""

SHARD_BYTES = 4_000_000
"""Of result lines with their tasks in one shard: read, they take several times as much memory."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The batch was cancelled, and its unanswered tasks with it."""


@dataclass(frozen=True, slots=True)
class End:
    """How a line ended. ``size``: bytes of what the provider said; ``strikes``: where this end added to the line's;
    ``unsure``: see Settle."""

    custom_id: str
    outcome: Answered | Bury | Withdrawn
    response: Response | None
    size: int
    strikes: Strikes | None = None
    unsure: bool = False


class Diverged(Exception):
    """The files come to other ends than when the checkpoint was made: another release read them, or other limits."""


class Settlement:
    """One pass over a batch's ends. ``resume`` is how far an earlier pass came."""

    def __init__(self, system: System, row: BatchRow, sent: SentLines, resume: Progress | None) -> None:
        self._system = system
        self._row = row
        self._sent = sent
        self._seller = system.seller(row.lot.provider)
        self._resume = resume
        self._shards = 0
        self._digest = sha256()
        self._shard: list[End] = []
        self._bytes = 0
        self._ends = 0
        self._cuts = () if resume is None else resume.cuts
        self.tally = BatchTally()
        self._newer: NewerSchema | None = None
        """The last of the rows that a newer release wrote. Their lines are settled by that release, which has to read
        the batch's files too: no checkpoint passes over them."""

    def add(self, end: End) -> Progress | None:
        """How far this pass has come, where it has just settled a shard and more follows. Raises Diverged."""
        width = end.size + self._sent.length(end.custom_id)
        progress = None
        full = len(self._shard) >= SHARD_LINES or self._bytes + width > SHARD_BYTES
        if self._shard and (full or self._ends in self._cuts):
            progress = self._close()
        self._ends += 1
        self._shard.append(end)
        self._bytes += width
        return progress

    def cut(self) -> Progress | None:
        """Settle what there is, for more may be long in coming. Return how far this pass has come, if that is news."""
        if self._shard and self._ends not in self._cuts:
            self._cuts = (*self._cuts, self._ends)
        return self._close() if self._shard else None

    def finish(self) -> None:
        """Settles what is left. Raises Diverged where the files end before the checkpoint, and NewerSchema where a
        line's row is a newer release's: all others are settled and told then, and the batch stays as it is."""
        if self._shard:
            self._close()
        if self._resume is not None and self._shards < self._resume.shards:
            raise Diverged
        if self._newer is not None:
            raise self._newer

    def _close(self) -> Progress | None:
        shard, number = self._shard, self._shards
        self._shard, self._bytes, self._shards = [], 0, number + 1
        for end in shard:
            self._digest.update(f"{end.custom_id} {type(end.outcome).__name__}\n".encode())
        if self._resume is None or number >= self._resume.shards:
            self._settle(number, [(self._sent[end.custom_id], end) for end in shard])
            if self._newer is not None:
                return None
            return Progress(shards=self._shards, digest=self._digest.hexdigest(), tally=self.tally, cuts=self._cuts)
        if self._shards == self._resume.shards:
            if self._digest.hexdigest() != self._resume.digest:
                raise Diverged
            self.tally = self._resume.tally
        return None

    def _settle(self, number: int, shard: Sequence[tuple[Sent, End]]) -> None:
        system, row = self._system, self._row
        documents_ = [self._document(sent, end) for sent, end in shard]
        lines = [document.model_dump_json().encode() + b"\n" for document in documents_]
        content = b"".join(lines)
        # The digest keeps a shard that rows point to from being replaced, should prices change between two readings.
        name = f"{row.batch_id}/{number:05d}-{sha256(content).hexdigest()[:12]}"
        key = f"results/{name}.jsonl"
        system.objects.put(key, content)
        holders = frozenset(row.part_ids)
        changes: list[Change[TaskRow, TaskEvent]] = []
        offset = 0
        for (sent, end), document, line in zip(shard, documents_, lines, strict=True):
            pointer = Pointer(key=key, offset=offset, length=len(line))
            changes.append(Change(sent.line.task.key, _settling(sent, end, document, holders, pointer)))
            offset += len(line)
        made = list(zip(shard, documents_, self._applied(changes), strict=True))
        settled = [
            (sent, document, decision.row)
            for (sent, _), document, decision in made
            if decision is not None
            and decision.verdict in (Verdict.APPLIED, Verdict.REPEATED)
            and decision.row is not None
        ]
        again = any(decision is not None and decision.verdict is Verdict.REPEATED for _, _, decision in made)
        self._count(deliver_shard(system, name, settled, again=again))
        self._count_in_vain([(document, decision) for _, document, decision in made if decision is not None])

    def _applied(self, changes: Sequence[Change[TaskRow, TaskEvent]]) -> list[Decision | None]:
        """None where a newer release wrote the row."""
        now = self._system.clock.now()
        made = each_or_newer(lambda: self._system.tasks.apply(changes, now), len(changes))
        self._newer = next((each for each in reversed(made) if isinstance(each, NewerSchema)), self._newer)
        return [None if isinstance(each, NewerSchema) else each for each in made]

    def _document(self, sent: Sent, end: End) -> ResultDocument:
        row, task = self._row, sent.line.task
        if row.collected_at is None:
            raise AssertionError("collecting has begun")
        attempt = tried(self._system, row, sent, end.strikes)
        match end.outcome:
            case Answered():
                if end.response is None:
                    raise AssertionError("an answer has a response")
                return documents.answered(task, attempt, end.response, self._seller, row.collected_at)
            case Bury(code, message):
                return documents.dead(task, attempt, code, message, end.response, row.collected_at)
            case Withdrawn():
                spent_usd, now = attempt.strikes.total_usd, row.collected_at
                return cancelled(task, attempts=sent.attempt, spent_usd=spent_usd, now=now, batch_id=attempt.batch_id)

    def _count(self, receipt: Receipt) -> None:
        counts = {status: getattr(receipt, status.value) for status in Status}
        self.tally = self.tally.model_copy(
            update={status.value: getattr(self.tally, status.value) + amount for status, amount in counts.items()}
        )

    def _count_in_vain(self, made: Sequence[tuple[ResultDocument, Decision]]) -> None:
        """Answers to tasks that were cancelled while their lines ran: nobody gets them, and they were billed."""
        for document, decision in made:
            if decision.verdict is Verdict.IN_VAIN and decision.row is not None and decision.row.document is not None:
                usage = document.record.usage
                self.tally = self.tally.model_copy(update={"in_vain": self.tally.in_vain + usage})
        count_in_vain(self._system, [decision for _, decision in made])


def _settling(sent: Sent, end: End, document: ResultDocument, holders: frozenset[str], pointer: Pointer) -> Settle:
    record = document.record
    return Settle(
        holders=holders,
        attempt=sent.attempt,
        status=record.status,
        lane=record.lane,
        error_code=record.error.code if record.error else None,
        pointer=pointer,
        unsure=int(end.unsure),
        strikes=end.strikes,
        ending=Ending.of(sent.line.task, document),
    )


def tried(system: System, row: BatchRow, sent: Sent, strikes: Strikes | None = None) -> Try:
    """A line's attempt in this batch; ``strikes`` None: those that it came with."""
    # By when the batch was ordered, however long it ran: the intent is written just before each creation, while
    # ``submitted_at`` may be the end of an outage later, where a crash came between creation and note.
    windows = system.routes.off_peak(row.lot.provider)
    hours = None if row.intent_at is None else open_now(windows, Lane.BATCH, row.intent_at)
    reason = f"{sent.line.task.route}; batched at half price" + ("" if hours is None else f", {hours}")
    batch_id = row.provider_batch.id if row.provider_batch is not None and row.provider_batch.id else None
    before = sent.line.strikes if strikes is None else strikes
    return Try(sent.attempt, Lane.BATCH, reason, before, batch_id=batch_id, bought_at=row.intent_at)
