import time
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.lanes import Lane
from lowtide.core.receipts import BatchLine, Receipt, Share
from lowtide.core.records import ResultRecord, Status, Usage
from lowtide.core.tiers import Tier

MOMENT = datetime(2026, 2, 28, 10, tzinfo=UTC)
ANSWERED = ResultRecord(
    id="r1",
    custom_id="t1",
    response=None,
    error=None,
    task_id="t1",
    tenant="acme",
    type=None,
    tags={},
    tier=Tier.LOW,
    lane=Lane.BATCH,
    model="gpt-5-mini",
    status=Status.ANSWERED,
    attempts=1,
    batch_id="b1",
    usage=Usage(),
    cost_usd=Decimal("0.000041"),
    list_cost_usd=Decimal("0.000082"),
    accepted_at=MOMENT,
    finished_at=MOMENT,
    deadline_met=True,
    route="cheapest",
)


def record(**changes):
    return ANSWERED.model_copy(update=changes)


money = st.decimals(min_value=0, max_value=100, places=9)
records = st.builds(
    record,
    tier=st.sampled_from(Tier),
    lane=st.sampled_from([None, *Lane]),
    model=st.sampled_from(["gpt-5-mini", "gpt-4o-mini", "unknown"]),
    status=st.sampled_from(Status),
    cost_usd=st.none() | money,
    list_cost_usd=st.none() | money,
)
receipts = st.builds(Receipt.of, records, repaid=st.integers(0, 3))


@given(receipts, receipts)
def test_what_is_taken_back_was_never_there(a, b):
    assert (a + b) + -a == b
    assert a + -a == Receipt()


@given(receipts, receipts, receipts)
def test_receipts_add_in_any_order_and_grouping(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c) == Receipt.sum([c, a, b])


@given(receipts)
def test_the_empty_receipt_adds_nothing(receipt):
    assert receipt + Receipt() == receipt
    assert Receipt.sum([]) == Receipt()


@given(st.lists(records, max_size=12))
def test_shares_add_up_to_the_totals(some):
    total = Receipt.sum(Receipt.of(one) for one in some)
    whole = Share(tasks=total.tasks, cost_usd=total.cost_usd, list_cost_usd=total.list_cost_usd)
    for group in (total.by_tier, total.by_model):
        assert sum(group.values(), Share()) == whole
    called = Receipt.sum(Receipt.of(one) for one in some if one.lane is not None)
    assert sum(total.by_lane.values(), Share()).cost_usd == called.cost_usd
    assert sum(share.tasks for share in total.by_lane.values()) == called.tasks


@given(st.lists(records, max_size=12))
def test_every_task_is_answered_dead_or_cancelled(some):
    total = Receipt.sum(Receipt.of(one) for one in some)
    assert total.tasks == len(some) == total.answered + total.dead + total.cancelled


@given(receipts)
def test_a_receipt_survives_its_own_json(receipt):
    assert Receipt.model_validate_json(receipt.model_dump_json()) == receipt


def test_a_dead_tasks_failed_attempts_lessen_what_was_saved():
    dead = record(status=Status.DEAD, cost_usd=Decimal("0.00001"), list_cost_usd=None)
    total = Receipt.of(ANSWERED) + Receipt.of(dead)
    assert (total.answered, total.dead, total.unpriced) == (1, 1, 0)
    assert total.saved_usd == Decimal("0.000082") - Decimal("0.000051")
    assert total.saved_pct == 37.8


def test_a_record_without_a_price_is_counted_and_left_out_of_the_saving():
    unpriced = Receipt.of(record(model="unknown", cost_usd=None, list_cost_usd=Decimal(5)))
    assert (unpriced.tasks, unpriced.unpriced) == (1, 1)
    assert (Receipt.of(ANSWERED) + unpriced).saved_usd == Receipt.of(ANSWERED).saved_usd


def test_a_task_that_was_never_called_is_in_no_lane():
    receipt = Receipt.of(record(lane=None, status=Status.CANCELLED, cost_usd=Decimal(0), list_cost_usd=None))
    assert receipt.by_lane == {}
    assert receipt.by_tier["LOW"].tasks == 1


def test_dearer_lanes_can_save_less_than_nothing():
    receipt = Receipt.of(record(lane=Lane.PRIORITY, cost_usd=Decimal("0.0002"), list_cost_usd=Decimal("0.0001")))
    assert receipt.saved_usd == Decimal("-0.0001")
    assert receipt.saved_pct == -100.0


def test_nothing_is_saved_where_there_is_no_list_price():
    assert Receipt().saved_pct == 0.0


def test_the_document_is_receipt_json_to_the_letter():
    receipt = Receipt.of(ANSWERED, repaid=1) + Receipt(refused=2, duplicates=3)
    line = BatchLine(
        batch_id="b1", model="gpt-5-mini", requests=2, answered=1, failed=1, status="completed", seconds=61.5
    )
    share = {"tasks": 1, "cost_usd": "0.000041", "list_cost_usd": "0.000082"}
    assert receipt.document([line], reconciled=True) == {
        "tasks": 1,
        "answered": 1,
        "dead": 0,
        "cancelled": 0,
        "refused": 2,
        "duplicates": 3,
        "unpriced": 0,
        "repaid": 1,
        "cost_usd": "0.000041",
        "list_cost_usd": "0.000082",
        "saved_usd": "0.000041",
        "saved_pct": 50.0,
        "by_lane": {"batch": share},
        "by_tier": {"LOW": share},
        "by_model": {"gpt-5-mini": share},
        "batches": [
            {
                "batch_id": "b1",
                "model": "gpt-5-mini",
                "requests": 2,
                "answered": 1,
                "failed": 1,
                "status": "completed",
                "seconds": 61.5,
            }
        ],
        "reconciled": True,
    }


def test_fifty_thousand_receipts_are_summed_while_one_waits():
    many = [Receipt.of(ANSWERED)] * 50_000
    started = time.process_time()
    total = Receipt.sum(many)
    # Pairwise sums would be quadratic in what they carry; one pass takes about 0.2 s of a slow machine.
    assert time.process_time() - started < 5
    assert total.cost_usd == Decimal("2.05")
