"""The ledger of enqueued tokens: what counts, who goes first, and what a refusal teaches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.batches import BatchRow, BatchState, ProviderBatch, ProviderStatus, ValidationFault
from lowtide.core.enqueued import (
    REMEMBERED,
    LearnedLimit,
    Pool,
    admitted,
    beside,
    committed,
    fits,
    learned_from,
    lowest,
    pool_of,
)
from lowtide.core.parts import Lot, PartRow
from lowtide.core.task import Endpoint

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOT = Lot(provider="openai", model="gpt-5-mini", endpoint=Endpoint.CHAT)
POOL = Pool("openai", "gpt-5-mini")


def batch(name: str, state: BatchState, tokens: int, *, lot: Lot = LOT, age_s: float = 0, **fields) -> BatchRow:
    return BatchRow(
        batch_id=name,
        lot=lot,
        part_ids=(),
        created_at=NOW - timedelta(seconds=age_s),
        tightest_deadline=NOW,
        state=state,
        tokens=tokens,
        **fields,
    )


def part(name: str, tokens: int, lot: Lot = LOT) -> PartRow:
    return PartRow(
        part_id=name,
        lot=lot,
        object_key=name,
        tasks=1,
        bytes=1,
        tokens=tokens,
        oldest_at=NOW,
        tightest_deadline=NOW,
        created_at=NOW,
    )


def refusal(message: str | None = None) -> ProviderBatch:
    fault = ValidationFault(code="token_limit_exceeded", message=message)
    return ProviderBatch(id="batch_1", status=ProviderStatus.FAILED, faults=(fault,))


def test_a_batch_counts_until_it_has_ended():
    states = {state: batch(state.value, state, 10) for state in BatchState}
    own = batch("own", BatchState.SEALED, 10)
    counted = {state for state, row in states.items() if beside([row], own)}
    assert counted == {BatchState.UPLOADING, BatchState.SUBMITTING, BatchState.RUNNING}
    promised = {state for state, row in states.items() if committed([row], POOL)}
    assert promised == counted | {BatchState.OPEN, BatchState.SEALED}


def test_a_snapshot_and_another_endpoint_share_the_limit_and_another_model_does_not():
    responses = Lot(provider="openai", model="gpt-5-mini-2025-08-07", endpoint=Endpoint.RESPONSES)
    assert pool_of(responses) == POOL
    other = LOT.model_copy(update={"model": "gpt-5"})
    rows = [batch("a", BatchState.RUNNING, 10, lot=responses), batch("b", BatchState.RUNNING, 10, lot=other)]
    assert beside(rows, batch("own", BatchState.SEALED, 1)) == 10


def test_a_batch_goes_where_it_fits_and_waits_where_it_does_not():
    running, own = batch("a", BatchState.RUNNING, 60), batch("b", BatchState.SEALED, 40)
    assert fits([running, own], own, 100, NOW)
    assert not fits([running, own], own, 99, NOW)
    assert fits([running, own], own, None, NOW)


def test_a_batch_larger_than_the_limit_goes_when_nothing_else_is_there():
    own = batch("b", BatchState.SEALED, 500)
    assert fits([own], own, 100, NOW)
    assert not fits([own, batch("a", BatchState.RUNNING, 1)], own, 100, NOW)


def test_small_batches_do_not_pass_a_large_one_for_ever():
    running = batch("a", BatchState.RUNNING, 30)
    large = batch("large", BatchState.SEALED, 80, age_s=60)
    small = batch("small", BatchState.SEALED, 10)
    assert not fits([running, large, small], small, 100, NOW)
    backing_off = large.model_copy(update={"not_before": NOW + timedelta(minutes=5)})
    assert fits([running, backing_off, small], small, 100, NOW)


@given(
    sizes=st.lists(st.integers(1, 120), max_size=12),
    limit=st.integers(1, 200),
    taken=st.integers(0, 200),
)
def test_what_is_admitted_is_a_beginning_of_the_line_and_fits_but_for_one_alone(sizes, limit, taken):
    groups = [[part(str(number), size)] for number, size in enumerate(sizes)]
    chosen = admitted(groups, {POOL: taken}, {POOL: limit})
    assert chosen == groups[: len(chosen)]
    total = taken + sum(group[0].tokens for group in chosen)
    assert total <= max(limit, taken) or (taken == 0 and len(chosen) == 1)
    if len(chosen) < len(groups):
        assert total > 0
        assert total + groups[len(chosen)][0].tokens > limit


def test_a_model_without_room_does_not_hold_up_another():
    other = LOT.model_copy(update={"model": "gpt-5"})
    groups = [[part("a", 10)], [part("b", 10, other)]]
    assert admitted(groups, {POOL: 95}, {POOL: 100}) == groups[1:]


@pytest.mark.parametrize(
    ("message", "tokens", "taken", "known", "limit"),
    [
        ("Enqueued token limit reached. Limit: 2,000,000 enqueued tokens.", 5_000_000, 0, None, 2_000_000),
        ("Enqueued token limit reached. Limit: 9,000,000 enqueued tokens.", 1_000, 3_000, None, 3_000),
        ("Limit: 0 enqueued tokens.", 1_000, 0, None, 500),
        (None, 1_000, 0, None, 500),
        (None, 1_000, 9_000, None, 9_000),
        (None, 1_000, 9_000, 4_000, 4_000),
    ],
)
def test_a_refusal_teaches_a_limit_that_explains_it_and_never_a_higher_one(message, tokens, taken, known, limit):
    assert learned_from(refusal(message), tokens, taken, known, NOW).tokens == limit


def test_what_was_learned_is_forgotten_after_a_day_and_what_was_written_down_is_not():
    learned = LearnedLimit(tokens=50, learned_at=NOW)
    assert lowest(100, learned, NOW) == 50
    assert lowest(30, learned, NOW) == 30
    assert lowest(100, learned, NOW + REMEMBERED) == 100
    assert lowest(None, learned, NOW + REMEMBERED) is None
