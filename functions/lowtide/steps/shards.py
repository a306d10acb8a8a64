"""Shards: what the settled lines of one object of results owe to ledger, dead letters and receivers.

A collection that dies after the rows were written and before that was delivered is taken up by another reading, which
may come to other documents: prices, routes or a release changed meanwhile. Rows keep what was settled first, so what
that shard owes is delivered from its object, before anything else is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from lowtide.core.batches import BatchRow
from lowtide.core.receipts import Receipt
from lowtide.core.records import Pointer, ResultDocument
from lowtide.core.task import custom_id, task_key
from lowtide.core.tasks import SETTLED, TaskRow, TaskState
from lowtide.ports import System

from .deliver import own_entry, task_entry, untold
from .letters import send_letters
from .newer import known_rows
from .part_file import placed
from .sent import Sent, SentLines
from .tell import Ended, tell

Settled = tuple[Sent, ResultDocument, TaskRow]


def deliver_shard(system: System, name: str, settled: Sequence[Settled], *, again: bool = False) -> Receipt:
    """Deliver all rows that point into this shard: its ledger entry replaces itself. Return the sum of their receipts.

    ``again``: an earlier reading may have delivered it. Deaths that the ledger has were told of then, and are not told
    of once more: their entries are put after their letters."""
    fresh = untold(system, settled, _death_entry) if again else settled
    receipts = [(own_entry(row), Receipt.of(document.record, repaid=row.repaid)) for _, document, row in settled]
    letters = [
        (f"{document.record.id} {row.generation}", document.letter)
        for _, document, row in fresh
        if document.letter is not None
    ]
    send_letters(system, letters)
    tell(system, [Ended(sent.line.task, row, document.record) for sent, document, row in fresh])
    together = [(f"batch/{name}", Receipt.sum(receipt for entry, receipt in receipts if entry is None))]
    system.ledger.put(together + [(entry, receipt) for entry, receipt in receipts if entry is not None])
    return Receipt.sum(receipt for _, receipt in receipts)


def deliver_again(system: System, row: BatchRow, sent: SentLines) -> None:
    """The shards that an earlier reading left behind no checkpoint. On a first reading there are none."""
    delivered = 0 if row.progress is None else row.progress.shards
    prefix = f"results/{row.batch_id}/"
    for key in list(system.objects.keys(prefix)):
        if int(key.removeprefix(prefix).partition("-")[0]) >= delivered:
            name = key.removeprefix("results/").removesuffix(".jsonl")
            deliver_shard(system, name, _settled(system, key, sent), again=True)


def _death_entry(settled: Settled) -> str | None:
    _, _, row = settled
    return task_entry(row) if row.state is TaskState.DEAD else None


def _settled(system: System, key: str, sent: SentLines) -> list[Settled]:
    """Of a shard's documents, those that their tasks' rows point to."""
    documents = [
        (Pointer(key=key, offset=offset, length=len(raw) + 1), ResultDocument.model_validate_json(raw))
        for offset, raw in placed(system.objects.lines(key))
    ]
    rows = known_rows(system.tasks, [task_key(each.record.tenant, each.record.task_id) for _, each in documents])
    return [
        (sent[custom_id(row.tenant, row.task_id, row.attempt)], document, row)
        for (pointer, document), row in zip(documents, rows, strict=True)
        if row is not None and row.state in SETTLED and row.pointer == pointer
    ]
