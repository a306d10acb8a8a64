from __future__ import annotations

from lowtide.core.batches import BatchState, BatchVerdict, Done, Intend, Lease, Run, Seal, Start, Upload
from lowtide.ports import Change
from tests.contract.cases import LATER, NOW, SOON, batch, provider_batch
from tests.contract.conftest import Store


def start(store: Store, *numbers: int) -> None:
    store.batches.apply([Change(f"b_{number}", Start(batch(number))) for number in numbers], NOW)


def test_active_lists_every_batch_that_is_not_done_oldest_first(store: Store) -> None:
    for number in (1, 2, 3):
        start(store, number)
    assert [row.batch_id for row in store.batches.active()] == ["b_1", "b_2", "b_3"]
    store.batches.apply([Change("b_1", Lease("me", SOON)), Change("b_1", Done("me"))], NOW)
    assert [row.batch_id for row in store.batches.active()] == ["b_2", "b_3"]


def test_the_loser_of_a_lease_is_refused_until_it_runs_out(store: Store) -> None:
    start(store, 1)
    mine, theirs = store.batches.apply([Change("b_1", Lease(who, SOON)) for who in ("me", "them")], NOW)
    assert (mine.verdict, theirs.verdict) == (BatchVerdict.APPLIED, BatchVerdict.REFUSED)
    [late] = store.batches.apply([Change("b_1", Lease("them", LATER))], SOON)
    assert late.verdict is BatchVerdict.APPLIED
    [overtaken] = store.batches.apply([Change("b_1", Upload("me"))], SOON)
    assert overtaken.verdict is BatchVerdict.REFUSED


def test_a_batch_keeps_all_that_it_was_told(store: Store) -> None:
    start(store, 1)
    events = (
        Lease("me", SOON),
        Seal("me", "batches/b_1.jsonl", "batches/b_1.manifest", requests=10, bytes=2**31, tokens=77),
        Upload("me"),
        Intend("me", "file-1"),
        Run("me", provider_batch()),
    )
    decided = store.batches.apply([Change("b_1", event) for event in events], NOW)
    assert {decision.verdict for decision in decided} == {BatchVerdict.APPLIED}
    [row] = store.batches.get(["b_1"])
    assert row == decided[-1].row
    assert row is not None
    assert (row.state, row.bytes, row.input_ref, row.intent_at) == (BatchState.RUNNING, 2**31, "file-1", NOW)
    assert row.provider_batch == provider_batch()
    assert row.rev == 6
