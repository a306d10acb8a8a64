from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aws_cases import NOW, SETTLE, Calls, part, task

from lowtide.adapters.aws import backoff
from lowtide.adapters.aws.rows import HOLDS, MEMORY, PARTS, TASKS, DynamoRows, Kind
from lowtide.adapters.aws.table import Table
from lowtide.core.errors import Contended, LowtideError, NewerSchema, TooLarge, Unfinished
from lowtide.core.holds import HoldVerdict, Lift, Place, Scope
from lowtide.core.parts import Close, Finish, Join, Open, PartVerdict
from lowtide.core.tasks import Accept, ClaimCall, ClaimPart, TaskState, Verdict, transition
from lowtide.ports import Change
from lowtide.steps.newer import known_rows, rows_or_newer
from lowtide_local.engine.metrics import RecordedMetrics
from tests.contract.aws import TABLE, Stand


def claim(number: int = 1, holder: str = "call-1", **changes: Any) -> ClaimCall:
    return ClaimCall(task(number, **changes), holder, NOW + timedelta(seconds=30))


def tasks_on(aws: Stand, **how: Any) -> DynamoRows[Any, Any, Any]:
    return DynamoRows(aws.table(**how), TASKS)


def item(aws: Stand, pk: str) -> dict[str, Any]:
    return aws.dynamodb.get_item(TableName=TABLE, Key={"pk": {"S": pk}, "sk": {"S": "row"}})["Item"]


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff.time, "sleep", lambda seconds: None)


def test_a_claim_and_a_settling_write_are_all_that_a_task_costs(aws):
    tasks, calls = tasks_on(aws), Calls(aws.dynamodb)
    [claimed] = tasks.apply([Change(task().key, claim())], NOW)
    [settled] = tasks.apply([Change(task().key, SETTLE, claimed.row)], NOW)
    assert (claimed.verdict, settled.verdict) == (Verdict.APPLIED, Verdict.APPLIED)
    assert calls.names == ["PutItem", "PutItem"]


def test_a_decision_returns_the_row_as_it_is_stored(aws):
    tasks = tasks_on(aws)
    [claimed] = tasks.apply([Change(task().key, claim())], NOW)
    assert claimed.row.rev == 1
    assert tasks.get([task().key]) == [claimed.row]
    [settled] = tasks.apply([Change(task().key, SETTLE, claimed.row)], NOW)
    assert settled.row.rev == 2
    assert tasks.get([task().key]) == [settled.row]


def test_a_duplicate_is_found_by_its_failed_claim_without_a_read(aws):
    tasks = tasks_on(aws)
    tasks.apply([Change(task().key, ClaimPart(task(), "p_1"))], NOW)
    calls = Calls(aws.dynamodb)
    [again] = tasks.apply([Change(task().key, ClaimPart(task(origin="another"), "p_2"))], NOW)
    assert again.verdict is Verdict.DUPLICATE
    assert again.row.holder == "p_1"
    assert calls.names == ["PutItem"]


def test_other_content_under_the_same_id_is_a_conflict_and_leaves_the_first_alone(aws):
    tasks = tasks_on(aws)
    [first] = tasks.apply([Change(task().key, claim())], NOW)
    [other] = tasks.apply([Change(task().key, claim(content_hash="other"))], NOW)
    assert other.verdict is Verdict.CONFLICT
    assert tasks.get([task().key]) == [first.row]


def test_a_change_decided_on_an_old_sight_of_the_row_is_decided_again_on_the_row(aws):
    tasks = tasks_on(aws)
    [accepted] = tasks.apply([Change(task().key, Accept(task()))], NOW)
    tasks.apply([Change(task().key, claim(), accepted.row)], NOW)
    [late] = tasks.apply([Change(task().key, claim(holder="call-2"), accepted.row)], NOW)
    assert late.verdict is Verdict.BUSY
    assert late.row.holder == "call-1"


def test_an_old_sight_that_says_nothing_is_to_do_is_checked_before_it_is_believed(aws):
    tasks = tasks_on(aws)
    tasks.apply([Change(task().key, claim())], NOW)
    [settled] = tasks.apply([Change(task().key, SETTLE)], NOW)
    assert settled.verdict is Verdict.APPLIED
    assert tasks.get([task().key])[0].state is TaskState.ANSWERED


def test_a_guess_at_a_row_that_has_expired_starts_from_none(aws):
    tasks = tasks_on(aws)
    [accepted] = tasks.apply([Change(task().key, Accept(task()))], NOW)
    aws.dynamodb.delete_item(TableName=TABLE, Key={"pk": {"S": f"task#{task().key}"}, "sk": {"S": "row"}})
    [claimed] = tasks.apply([Change(task().key, claim(), accepted.row)], NOW)
    assert (claimed.verdict, claimed.row.rev) == (Verdict.APPLIED, 1)


def test_changes_to_one_key_are_applied_in_their_order_among_those_to_others(aws):
    tasks = tasks_on(aws, threads=4)
    changes = [Change(task(n).key, claim(n)) for n in range(1, 21)]
    changes += [Change(task(n).key, SETTLE) for n in range(1, 21)]
    changes += [Change(task(n).key, replace(SETTLE, attempt=2)) for n in range(1, 21)]
    decisions = tasks.apply(changes, NOW)
    verdicts = [decision.verdict for decision in decisions]
    assert verdicts == [Verdict.APPLIED] * 40 + [Verdict.STALE] * 20
    assert [decision.row.task_id for decision in decisions] == [f"t_{n}" for n in range(1, 21)] * 3


def test_rows_are_read_in_the_order_of_the_keys_with_none_for_what_is_not_there(aws):
    tasks = tasks_on(aws, threads=4)
    tasks.apply([Change(task(n).key, claim(n)) for n in range(110)], NOW)
    calls = Calls(aws.dynamodb)
    keys = [task(n).key for n in (*range(109, -1, -1), 5, 999)]
    rows = tasks.get(keys)
    assert [row.task_id for row in rows[:-1]] == [f"t_{n}" for n in (*range(109, -1, -1), 5)]
    assert rows[-1] is None
    assert calls.names == ["BatchGetItem"] * 2


def test_what_a_read_leaves_unprocessed_is_asked_for_again(aws, no_pauses):
    class Throttled:
        """Answers for one key at a time."""

        def batch_get_item(self, **request: Any) -> Any:
            asked_of = request["RequestItems"][TABLE]
            keys = asked_of["Keys"]
            asked = {TABLE: asked_of | {"Keys": keys[:1]}}
            rest = {TABLE: asked_of | {"Keys": keys[1:]}} if keys[1:] else {}
            return aws.dynamodb.batch_get_item(RequestItems=asked) | {"UnprocessedKeys": rest}

    tasks_on(aws).apply([Change(task(n).key, claim(n)) for n in range(12)], NOW)
    throttled = DynamoRows(Table(Throttled(), TABLE), TASKS)
    assert [row.task_id for row in throttled.get([task(n).key for n in range(5)])] == [f"t_{n}" for n in range(5)]
    with pytest.raises(LowtideError, match="throttled"):
        throttled.get([task(n).key for n in range(12)])


def test_the_active_rows_are_listed_oldest_first_and_those_done_are_not(aws):
    parts = DynamoRows(aws.table(), PARTS)
    rows = [part(n, NOW - timedelta(minutes=n)) for n in range(3)]
    parts.apply([Change(row.key, Open(row)) for row in rows], NOW)
    parts.apply([Change("p_1", Close()), Change("p_1", Join("b_1")), Change("p_1", Finish("b_1"))], NOW)
    assert [row.part_id for row in parts.active()] == ["p_2", "p_0"]
    assert "active_kind" not in item(aws, "part#p_1")


def test_a_listed_row_is_shown_as_it_is_now(aws):
    parts = DynamoRows(aws.table(), PARTS)
    parts.apply([Change("p_1", Open(part(1))), Change("p_1", Close())], NOW)
    [row] = parts.active()
    assert (row.state.value, row.rev) == ("closed", 2)


def test_tasks_are_too_many_to_list(aws):
    with pytest.raises(TypeError, match="too many"):
        tasks_on(aws).active()


def test_repeating_a_change_says_that_it_took_effect_before(aws):
    parts = DynamoRows(aws.table(), PARTS)
    [first] = parts.apply([Change("p_1", Open(part(1)))], NOW)
    [again] = parts.apply([Change("p_1", Open(part(1)))], NOW)
    assert (first.verdict, again.verdict) == (PartVerdict.APPLIED, PartVerdict.REPEATED)
    assert again.row == first.row


def test_only_what_is_settled_expires(aws):
    tasks, parts = tasks_on(aws), DynamoRows(aws.table(), PARTS)
    tasks.apply([Change(task().key, claim())], NOW)
    parts.apply([Change("p_1", Open(part(1)))], NOW)
    assert "expires_at" not in item(aws, f"task#{task().key}")
    assert "expires_at" not in item(aws, "part#p_1")
    settled_at = NOW + timedelta(hours=1)
    tasks.apply([Change(task().key, SETTLE)], settled_at)
    assert item(aws, f"task#{task().key}")["expires_at"] == {"N": str(int((settled_at + MEMORY).timestamp()))}


def test_a_row_beyond_an_item_is_refused_before_it_is_written_and_stays_as_it_was(aws):
    tasks = tasks_on(aws)
    [claimed] = tasks.apply([Change(task().key, claim())], NOW)
    large = replace(SETTLE, error_code="x" * 400 * 1024)
    calls = Calls(aws.dynamodb)
    with pytest.raises(TooLarge, match="keep its document in S3"):
        tasks.apply([Change(task().key, large, claimed.row)], NOW)
    assert calls.names == []
    assert tasks.get([task().key]) == [claimed.row]


def test_a_row_of_nearly_400_kb_is_taken(aws):
    tasks = tasks_on(aws)
    [claimed] = tasks.apply([Change(task().key, claim())], NOW)
    fits = replace(SETTLE, error_code="x" * 400_000)
    assert tasks.apply([Change(task().key, fits, claimed.row)], NOW)[0].verdict is Verdict.APPLIED


def test_a_row_that_never_holds_still_is_contended(aws, no_pauses):
    def meddle(row, event, now):
        """Another writer, always a moment ahead."""
        aws.dynamodb.update_item(
            TableName=TABLE,
            Key={"pk": {"S": f"task#{task().key}"}, "sk": {"S": "row"}},
            UpdateExpression="ADD rev :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        return transition(row, event, now)

    tasks_on(aws).apply([Change(task().key, Accept(task()))], NOW)
    meddled = DynamoRows(aws.table(), Kind("task", TASKS.model, meddle))
    with pytest.raises(Contended, match="t_1 acme"):
        meddled.apply([Change(task().key, claim())], NOW)


def test_a_write_repeated_by_the_sdk_after_a_lost_reply_knows_its_own_hand(aws):
    class LosesReplies:
        def put_item(self, **request: Any) -> Any:
            aws.dynamodb.put_item(**request)
            return aws.dynamodb.put_item(**request)

    tasks = DynamoRows(Table(LosesReplies(), TABLE), TASKS)
    [claimed] = tasks.apply([Change(task().key, claim())], NOW)
    assert claimed.verdict is Verdict.APPLIED
    assert tasks_on(aws).get([task().key]) == [claimed.row]


@pytest.mark.parametrize("threads", [1, 4])
def test_a_change_that_fails_is_told_beside_the_decisions_of_the_others(aws, threads):
    tasks = tasks_on(aws, threads=threads)
    numbers = (1, 2, 3)
    claimed = tasks.apply([Change(task(number).key, claim(number)) for number in numbers], NOW)
    large = replace(SETTLE, error_code="x" * 400 * 1024)
    changes = [Change(task(n).key, large if n == 2 else SETTLE, d.row) for n, d in zip(numbers, claimed, strict=True)]
    with pytest.raises(Unfinished, match="1 of 4 items were not done") as caught:
        tasks.apply([*changes, changes[0]], NOW)
    first, failed, third, repeated = caught.value.outcomes
    assert isinstance(failed, TooLarge)
    assert [each.verdict for each in (first, third, repeated)] == ["applied", "applied", "repeated"]
    states = [row.state for row in tasks.get([task(number).key for number in numbers])]
    assert states == [TaskState.ANSWERED, TaskState.CALLING, TaskState.ANSWERED]


def test_changes_of_one_row_end_with_the_first_that_fails(aws):
    tasks = tasks_on(aws)
    large = replace(SETTLE, error_code="x" * 400 * 1024)
    with pytest.raises(Unfinished) as caught:
        tasks.apply([Change(task().key, claim()), Change(task().key, large), Change(task().key, SETTLE)], NOW)
    assert [type(each).__name__ for each in caught.value.outcomes] == ["Decision", "TooLarge", "TooLarge"]
    assert tasks.get([task().key])[0].state is TaskState.CALLING


def newer(kind: Kind[Any, Any, Any]) -> Kind[Any, Any, Any]:
    """The kind as the next release has it."""
    return replace(kind, schema=kind.schema + 1)


def test_a_row_of_a_newer_version_is_not_read_and_not_written(aws):
    [theirs] = DynamoRows(aws.table(), newer(TASKS)).apply([Change(task().key, claim())], NOW)
    before = item(aws, f"task#{task().key}")
    with pytest.raises(NewerSchema, match="schema 2, this one reads 1"):
        tasks_on(aws).get([task().key])
    for guess in (None, theirs.row.model_copy(update={"rev": 7})):
        with pytest.raises(NewerSchema):
            tasks_on(aws).apply([Change(task().key, SETTLE if guess else claim(holder="call-2"), guess)], NOW)
    assert item(aws, f"task#{task().key}") == before


def test_a_row_without_a_version_is_of_the_first_one(aws):
    tasks = tasks_on(aws)
    [claimed] = tasks.apply([Change(task().key, claim())], NOW)
    unstamped = {name: value for name, value in item(aws, f"task#{task().key}").items() if name != "v"}
    aws.dynamodb.put_item(TableName=TABLE, Item=unstamped)
    assert tasks.get([task().key]) == [claimed.row]
    tasks.apply([Change(task().key, SETTLE, claimed.row)], NOW)
    assert item(aws, f"task#{task().key}")["v"] == {"N": "1"}


def test_a_newer_row_among_several_changes_stops_none_of_the_others(aws):
    DynamoRows(aws.table(), newer(TASKS)).apply([Change(task(1).key, claim(1))], NOW)
    with pytest.raises(Unfinished) as caught:
        tasks_on(aws).apply([Change(task(number).key, claim(number)) for number in (1, 2)], NOW)
    refused, applied = caught.value.outcomes
    assert isinstance(refused, NewerSchema)
    assert applied.verdict is Verdict.APPLIED


def test_a_newer_row_among_several_keys_hides_none_of_the_others(aws):
    DynamoRows(aws.table(), newer(TASKS)).apply([Change(task(1).key, claim(1))], NOW)
    [ours] = tasks_on(aws).apply([Change(task(2).key, claim(2))], NOW)
    keys = [task(number).key for number in (1, 2, 3)]
    with pytest.raises(Unfinished) as caught:
        tasks_on(aws).get(keys)
    refused, *others = caught.value.outcomes
    assert isinstance(refused, NewerSchema)
    assert others == [ours.row, None]
    [told, *same] = rows_or_newer(tasks_on(aws), keys)
    assert isinstance(told, NewerSchema)
    assert same == others
    assert known_rows(tasks_on(aws), keys[:1]) == [None]


def test_a_list_goes_without_newer_parts_and_says_so(aws):
    metrics = RecordedMetrics()
    DynamoRows(aws.table(), newer(PARTS)).apply([Change(part(1).key, Open(part(1)))], NOW)
    parts = DynamoRows(aws.table(), PARTS, metrics)
    parts.apply([Change(part(2).key, Open(part(2)))], NOW)
    assert [row.part_id for row in parts.active()] == ["p_2"]
    assert [(line.event, line.fields) for line in metrics.lines] == [("newer_rows", {"kind": "part", "rows": 1})]


def test_a_newer_hold_holds_all_low_until_an_operator_resumes_its_scope(aws):
    scope, holds = Scope(tenant="acme"), DynamoRows(aws.table(), HOLDS)
    DynamoRows(aws.table(), newer(HOLDS)).apply([Change(scope.text, Place(scope, "over budget"))], NOW)
    [row] = holds.active()
    assert (row.scope, row.placed_at) == (Scope(), NOW)
    assert '"tenant acme"' in row.reason
    assert holds.get([scope.text]) == [row]
    [again] = holds.apply([Change(scope.text, Place(scope, "anew"))], NOW)
    assert again.verdict is HoldVerdict.REPEATED
    [lifted] = holds.apply([Change(scope.text, Lift())], NOW)
    assert lifted.verdict is HoldVerdict.APPLIED
    assert holds.active() == []
    holds.apply([Change(scope.text, Place(scope, "anew"))], NOW)
    assert [(row.scope, row.reason) for row in holds.active()] == [(scope, "anew")]


def test_a_newer_hold_that_was_lifted_holds_nothing(aws):
    scope, theirs = Scope(model="gpt-6-luna"), DynamoRows(aws.table(), newer(HOLDS))
    theirs.apply([Change(scope.text, Place(scope, "over budget")), Change(scope.text, Lift())], NOW)
    holds = DynamoRows(aws.table(), HOLDS)
    assert holds.active() == []
    [again] = holds.apply([Change(scope.text, Lift())], NOW)
    assert again.verdict is HoldVerdict.REPEATED
