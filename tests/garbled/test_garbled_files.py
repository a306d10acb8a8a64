"""Ten thousand output files as no provider should write them: every task ends as it may, and by its own line alone.

A failure names its seed and its file; ``GARBLED_SEED=… pytest tests/garbled`` reads the same files again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime
from random import Random

import pytest

from lowtide.core import documents
from lowtide.core.batches import TERMINAL, ProviderBatch
from lowtide.core.charges import Seller
from lowtide.core.collection import Reading
from lowtide.core.documents import Try
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import Answered, Bury
from lowtide.core.receipts import Receipt
from lowtide.core.records import ResultDocument, Status
from lowtide.core.result_lines import parse_result_line
from lowtide.core.task import AcceptedTask, Endpoint, custom_id
from lowtide.core.tasks import Strikes
from lowtide.core.tiers import Tier
from tests.garbled.files import Says, output_file
from tests.sweep.world import prices

FILES = 10_000
CHUNKS = 4
SEED = os.environ.get("GARBLED_SEED", "20260305")
NOW = datetime(2026, 3, 5, 8, 0, tzinfo=UTC)

ENDS = {Says.ANSWERED: Answered, Says.BURIED: Bury, Says.AGAIN: type(None)}


BATCHES = [ProviderBatch(id="b", status=status) for status in sorted(TERMINAL)]


def accepted(number: int) -> AcceptedTask:
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}]}
    message = {"task_id": f"t{number}", "priority": "LOW", "request": {"url": Endpoint.CHAT, "body": body}}
    return AcceptedTask(
        message=message,
        tenant="acme",
        task_id=f"t{number}",
        type=None,
        tags={},
        tier=Tier.LOW,
        route="LOW",
        provider="openai",
        model="gpt-5-mini",
        endpoint=Endpoint.CHAT,
        accepted_at=NOW,
        deadline_at=NOW,
        content_hash="h",
        origin="m/0",
        routes_version="1",
        batchable=True,
    )


TASKS = {custom_id("acme", f"t{number}", 2): accepted(number) for number in range(8)}
LATE = [custom_id("acme", f"t{number}", 1) for number in range(8)]


def settled(name: str, outcome, response) -> ResultDocument:
    """What its shard keeps of it."""
    attempt = Try(2, Lane.BATCH, "batched", Strikes(), batch_id="b")
    if isinstance(outcome, Answered):
        return documents.answered(TASKS[name], attempt, response, Seller(prices()), NOW)
    return documents.dead(TASKS[name], attempt, outcome.code, outcome.message, response, NOW)


def read(number: int, seed: str = SEED) -> Counter[str]:
    """One file, read as a collection reads it; how its tasks ended."""
    dice = Random(f"{seed} {number}")
    ids = dice.sample(sorted(TASKS), dice.randint(1, len(TASKS)))
    file, batch = output_file(dice, ids, [*LATE, "nobody"]), dice.choice(BATCHES)
    reading, ends = Reading(), {}
    for line in file.lines:
        if (finished := reading.take(parse_result_line(line), ids)) is not None:
            assert finished.custom_id not in ends, "settled twice"
            ends[finished.custom_id] = finished.outcome
            document = settled(finished.custom_id, finished.outcome, finished.response)
            kept = document.model_dump_json()
            assert ResultDocument.model_validate_json(kept).model_dump_json() == kept
            assert json.loads(kept)
            _is_its_own(finished, document.record)
    for name, outcome, _ in reading.unanswered(ids, batch):
        assert name not in ends, "settled, and again"
        assert outcome.code
        ends[name] = None
    assert ends.keys() == set(ids), "lost"
    for name in ids:
        if (said := file.ends(name)) is not None:
            assert type(ends[name]) is ENDS[said], f"{name} is {said}"
    return Counter([*(type(end).__name__ for end in ends.values()), *(["lines"] * len(file.lines))])


def _is_its_own(finished, record) -> None:
    body = finished.response.body if finished.response is not None else None
    whose = body.get("id") if isinstance(body, dict) else None
    if isinstance(whose, str) and whose.removeprefix("for ") in {*TASKS, *LATE}:
        assert whose == f"for {finished.custom_id}", "another's line"
    receipt = Receipt.of(record)
    assert (record.status is Status.ANSWERED) == isinstance(finished.outcome, Answered)
    assert receipt.tasks == 1
    assert receipt.cost_usd >= 0


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_of_10_000_garbled_files_not_one_loses_a_task_or_settles_it_by_anothers_line(chunk):
    ends: Counter[str] = Counter()
    numbers = range(chunk, FILES, CHUNKS)
    for number in numbers:
        try:
            ends += read(number)
        except Exception as error:
            error.add_note(f"GARBLED_SEED={SEED} pytest tests/garbled: file {number}")
            raise
    assert len(numbers) * CHUNKS == FILES == 10_000
    # Not because nothing could be read, or everything: a tenth of the tasks at least ended each way.
    assert min(ends["Answered"], ends["Bury"], ends["NoneType"]) * 10 > ends.total() - ends["lines"]
