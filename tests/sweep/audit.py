"""What must be true when everything has ended, whatever happened on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import orjson

from lowtide.core import outward
from lowtide.core.batches import TERMINAL, ProviderStatus
from lowtide.core.outward import Event
from lowtide.core.receipts import Receipt
from lowtide.core.records import Status
from lowtide.core.task import custom_id
from lowtide.core.tasks import SETTLED
from lowtide.steps.deliver import document_of
from lowtide_local.run.reconcile import BilledLine, checks
from lowtide_local.run.records import settled
from tests.sweep.counts import uncounted
from tests.sweep.day import DUPLICATES, EITHER, ENDS, LETTERS, REFUSED, REPLIES, WOKEN
from tests.sweep.world import QUEUES, Life, World


def faults(world: World) -> list[str]:
    """Every promise that does not hold, in a line each; empty where all do."""

    async def look(life: Life) -> list[str]:
        return [*_tasks(life), *_bill(life), *_ledger(life), *_left_over(life), *_outward(life), *_counted(life)]

    return world.live(look)


def _counted(life: Life) -> Iterator[str]:
    """A process that dies may lose what it was about to count. Nothing is counted twice."""
    missing = uncounted(life.world.metrics, life.system, life.engine)
    yield from (f"{name} was counted {-amount:g} too often" for name, amount in missing.items() if amount < 0)


def _tasks(life: Life) -> Iterator[str]:
    rows = list(life.engine.tasks.scan())
    open_rows = [f"{row.task_id} is {row.state}" for row in rows if row.state not in SETTLED]
    yield from open_rows
    if open_rows:
        return
    records = [document.record for _, document in settled(life.system, life.engine)]
    twice = [name for name, times in Counter(record.task_id for record in records).items() if times > 1]
    yield from (f"{name} has more than one record" for name in twice)
    ends = {record.task_id: (record.status, record.error.code if record.error else None) for record in records}
    if ends != ENDS:
        yield f"the ends differ: {set(ends.items()) ^ set(ENDS.items())}"


def _bill(life: Life) -> Iterator[str]:
    billed = life.world.provider.billed
    rows = list(life.engine.tasks.scan())
    paid = {custom_id(row.tenant, row.task_id, attempt) for row in rows for attempt in row.strikes.billed}
    batched = Counter(
        str(line.id).rpartition("-")[0] for line in billed if line.batch_id is not None and line.id not in paid
    )
    yield from (f"batched {digest} was billed {times} times" for digest, times in batched.items() if times > 1)
    attempts = Counter(line.id for line in billed)
    yield from (f"attempt {name} was billed {times} times" for name, times in attempts.items() if times > 1)
    answered = {custom_id(row.tenant, row.task_id, row.attempt) for row in rows if row.state == Status.ANSWERED.value}
    answered |= paid
    unpaid = answered - set(attempts)
    yield from (f"the answer {name} was never billed" for name in unpaid)
    extra = sum(line.id not in answered for line in billed)
    repaid = sum(row.repaid for row in rows)
    if extra > repaid:
        yield f"{extra} lines were billed in vain, {repaid} are counted as repaid"


def _ledger(life: Life) -> Iterator[str]:
    total = life.engine.ledger.total()
    receipt = Receipt.sum(
        Receipt.of(document.record, repaid=row.repaid, premium_usd=document.premium_usd)
        for row, document in settled(life.system, life.engine)
    )
    if total != receipt.model_copy(update={"refused": REFUSED, "duplicates": DUPLICATES}):
        yield f"the ledger says {_summed(total)}, the receipts {_summed(receipt)} (refused {REFUSED}, dup {DUPLICATES})"
    lines = [BilledLine.of(line) for line in life.world.provider.billing()["data"]]
    yield from (
        f"{check.name}: {check.detail}" for check in checks(life.system, life.engine, total, lines) if not check.held
    )


def _summed(receipt: Receipt) -> str:
    return receipt.model_dump_json(exclude={"by_lane", "by_tier", "by_model", "list_cost_usd"})


def _left_over(life: Life) -> Iterator[str]:
    state = life.world.provider.state()
    yield from (f"the file {file['filename']} is left at the provider" for file in state["files"])
    known = {row.provider_batch.id for row in life.engine.batches.scan() if row.provider_batch is not None}
    for batch in state["batches"]:
        if batch["id"] not in known or ProviderStatus(batch["status"]) not in TERMINAL:
            yield f"the batch {batch['id']} is {batch['status']}, and no row knows it"
    for name in QUEUES:
        depth = life.engine.queue(name).depth()
        if depth.visible or depth.in_flight or depth.delayed:
            yield f"the queue {name} still holds {depth}"
    if life.system.parts.active() or life.system.batches.active():
        yield "a part or a batch is still active"


def _outward(life: Life) -> Iterator[str]:
    letters = {(_id_of(letter["task"]), letter["error"]["code"]) for letter in life.letters()}
    if letters != LETTERS:
        yield f"the dead letters differ: {letters ^ LETTERS}"
    replies = {(url, orjson.loads(body)["task_id"]) for url, body in life.world.replies.sent}
    if replies != REPLIES:
        yield f"the replies differ: {replies ^ REPLIES}"
    yield from _told(life)


def _told(life: Life) -> Iterator[str]:
    """Events and callbacks come at least once, each end's always with the same id and the same content."""
    rows = list(life.engine.tasks.scan())
    wanted = {outward.end_id(document_of(life.system, row).record, row) for row in rows if row.state in SETTLED}
    wanted |= {f"{row.batch_id}.{row.submission}" for row in life.engine.batches.scan() if row.provider_batch}
    told: dict[str, Event] = {}
    for event in life.world.events.sent:
        if told.setdefault(event.id, event) != event:
            yield f"the event {event.id} said two things"
    if told.keys() != wanted:
        yield f"the events differ: {told.keys() ^ wanted}"
    woken = {(callback.token, type(callback.told).__name__) for callback in life.world.callbacks.sent}
    either = {(token, how) for token, how in woken if token in EITHER}
    if woken - either != WOKEN:
        yield f"the callbacks differ: {(woken - either) ^ WOKEN}"
    if {token for token, _ in either} != EITHER or "Success" not in {how for _, how in either}:
        yield f"the callbacks of copies differ: {either}"


def _id_of(task: object) -> str | None:
    return task["task_id"] if isinstance(task, dict) else None
