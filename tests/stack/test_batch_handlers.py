"""LOW's way: the assembler and the poller, on the schedules of template.yaml and beside each other."""

from __future__ import annotations

from importlib.resources import files

import boto3
import orjson
import pytest
from stack_cases import low, pack, task

from lowtide.adapters.aws.rows import DynamoRows
from lowtide.core.batches import BatchState, ProviderStatus
from lowtide.core.lanes import Lane
from lowtide.core.records import Status
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario, Window, WindowKind
from lowtide_local.stack.line import Death

CREATE = "POST /v1/batches"
DOWNLOAD = "GET /v1/files/{id}/content"
NEVER_ENDS = Mishap(kind=MishapKind.NEVER_ENDS, contains="Soon.")
HALF_AN_HOUR = BatchWeather(min_s=1800, max_s=1800)


def with_mishap(kind, **how):
    return Scenario(batch=HALF_AN_HOUR.model_copy(update={"mishaps": (Mishap(kind=kind, **how),)}))


def ten(prefix="l"):
    return pack(*(low(f"{prefix}{number}") for number in range(10)))


def test_low_tasks_are_answered_in_a_batch_at_half_price(stage):
    played = stage(Scenario(batch=HALF_AN_HOUR))
    records = played.play(ten(), ten("m"))
    assert len(records) == 20
    assert {(record.lane, record.status, record.deadline_met) for record in records.values()} == {
        (Lane.BATCH, Status.ANSWERED, True)
    }
    assert all(record.cost_usd * 2 == record.list_cost_usd for record in records.values())
    [batch] = played.stack.view().batches.scan()
    assert (batch.state, batch.requests, batch.tally.answered) == (BatchState.DONE, 20, 20)
    assert {record.batch_id for record in records.values()} == {batch.provider_batch.id}
    assert played.stack.failures == []


def test_models_and_endpoints_do_not_share_a_batch(stage):
    played = stage()
    embedding = {"url": "/v1/embeddings", "body": {"model": "text-embedding-3-small", "input": "hello"}}
    played.play(low("a"), low("b", model="gpt-4o-mini"), {"task_id": "e", "priority": "LOW", "request": embedding})
    assert len({row.lot for row in played.stack.view().batches.scan()}) == 3


def test_what_an_expired_batch_left_undone_goes_into_the_next_and_is_paid_once(stage):
    played = stage(with_mishap(MishapKind.EXPIRES, batches=(1,), fraction=0.5))
    records = played.play(ten())
    assert {record.status for record in records.values()} == {Status.ANSWERED}
    assert sorted(record.attempts for record in records.values()) == [1] * 5 + [2] * 5
    assert len(played.line.provider.billed) == 10
    assert [row.tally.answered for row in played.stack.view().batches.scan()] == [5, 5]


def test_a_slow_batch_is_cancelled_in_time_and_its_rest_answered_by_the_consumer(stage):
    slow = BatchWeather(min_s=36_000, max_s=36_000, cancel_s=300, mishaps=(NEVER_ENDS,))
    played = stage(Scenario(batch=slow))
    near = pack(*(low(f"n{number}", f"Hello, {number}. Soon.", deadline_seconds=7_200) for number in range(4)))
    records = played.play(near, ten("f"))
    assert {record.status for record in records.values()} == {Status.ANSWERED}
    assert all(record.deadline_met for record in records.values())
    rescued = [record for name, record in records.items() if name.startswith("n")]
    assert all(record.lane is Lane.FLEX and "rescued from slow batch batch_" in record.route for record in rescued)
    first, second = played.stack.view().batches.scan()
    assert (first.provider_batch.status, first.tally.rescued) == (ProviderStatus.CANCELLED, 4)
    assert (second.requests, second.tally.answered) == (10, 10)
    assert (played.stack.view().ledger.total().rescued, played.stack.failures) == (4, [])
    assert len(played.line.provider.billed) == 14


def test_one_bad_line_is_one_dead_letter_of_its_batch(stage):
    played = stage()
    records = played.play(ten(), low("p", text="[sim:refuse]"))
    assert [name for name, record in records.items() if record.status is not Status.ANSWERED] == ["p"]
    letter, attributes = played.letters()["content_policy_violation"]
    assert letter["error"]["batch_id"] == records["p"].batch_id is not None
    assert (attributes["tenant"], attributes["type"]) == ("acme", "content_generation")


def test_a_batch_that_fails_validation_buries_the_lines_that_were_named(stage):
    played = stage()
    records = played.play(ten(), low("p", text="[sim:bad-line]"))
    assert [name for name, record in records.items() if record.status is not Status.ANSWERED] == ["p"]
    assert len(played.stack.letters()) == 1


def test_a_line_that_fails_in_a_batch_has_three_tries(stage):
    played = stage()
    records = played.play(low("dies", text="[sim:500]"), low("lives", text="[sim:500-twice]"))
    assert {name: (record.status.value, record.attempts) for name, record in records.items()} == {
        "dies": ("dead", 3),
        "lives": ("answered", 3),
    }


def test_a_poison_message_on_lows_queue_does_not_hold_up_the_drain(stage):
    played = stage()
    played.stack.queues["LowQueue"].send("not json", "acme")
    records = played.play(ten())
    assert len(records) == 10
    assert played.letters().keys() == {"invalid_task"}


def test_the_same_low_task_twice_is_in_one_batch_once(stage):
    played = stage()
    records = played.play(ten(), ten(), low("l0"))
    assert len(records) == 10
    assert played.stack.system().ledger.total().duplicates == 11
    assert len(played.line.provider.billed) == 10


def test_a_conflict_on_lows_queue_is_a_dead_letter(stage):
    played = stage()
    played.play(low("a"), low("a", text="another"))
    letter, _ = played.letters()["id_conflict"]
    assert letter["task"]["task_id"] == "a"


# --- deaths and doubles -------------------------------------------------------------------------------------------


def test_an_assembler_killed_after_the_creation_does_not_buy_the_batch_again(stage):
    played = stage(Scenario(batch=HALF_AN_HOUR), Death(CREATE, 1))
    records = played.play(ten())
    assert [name for name, _ in played.stack.failures] == ["Assembler"]
    assert len(records) == 10
    assert played.asked(CREATE) == 1
    [batch] = played.stack.view().batches.scan()
    assert batch.found


def test_an_assembler_killed_after_the_upload_leaves_no_second_file(stage):
    played = stage(Scenario(batch=HALF_AN_HOUR), Death("POST /v1/files", 1))
    records = played.play(ten())
    assert len(records) == 10
    assert (played.asked("POST /v1/files"), played.asked(CREATE)) == (1, 1)


def test_a_lost_reply_to_a_creation_is_looked_for_and_not_repeated(stage):
    played = stage(with_mishap(MishapKind.REPLY_LOST, batches=(1,)))
    assert len(played.play(ten())) == 10
    assert played.asked(CREATE) == 1


@pytest.mark.parametrize("nth", [1, 2])
def test_a_poller_killed_between_the_files_settles_each_line_once(stage, nth):
    half = BatchWeather(min_s=60, max_s=60, item_server_error=0.5)
    played = stage(Scenario(batch=half), Death(DOWNLOAD, nth))
    records = played.play(ten())
    assert [name for name, _ in played.stack.failures] == ["Poller"]
    assert {record.status for record in records.values()} == {Status.ANSWERED}
    assert len(played.line.provider.billed) == 10


def test_a_poller_killed_while_it_cleans_up_leaves_nothing_at_the_provider(stage):
    played = stage(None, Death("DELETE /v1/files/{id}", 1))
    assert len(played.play(ten())) == 10


def test_two_assemblers_at_once_buy_each_batch_once(stage):
    """The second comes while the first waits for each of its replies in turn."""
    played = stage(Scenario(batch=HALF_AN_HOUR), by_hand={"Assembler", "Poller", "Reporter"})
    overlapped = 0
    for turn, apart_s in enumerate((0, 0.02, 0.06, 0.12, 0.17, 0.25)):
        played.send(ten(f"{turn}-"))
        played.stack.wait(960)  # past what a batch waits for company
        first = played.stack.start("Assembler")
        played.stack.wait(apart_s)
        overlapped += not first.ended
        second = played.stack.start("Assembler")
        played.stack.wait(2)
        assert (first.ended, first.error, second.ended, second.error) == (True, None, True, None)
        assert played.asked(CREATE) == turn + 1
    assert overlapped >= 4
    played.stack.wait(1800)
    played.stack.invoke("Poller")
    assert len(played.audited()) == 60


def test_two_pollers_at_once_settle_each_line_once(stage):
    played = stage(Scenario(batch=HALF_AN_HOUR), by_hand={"Poller", "Reporter"})
    for turn, apart_s in enumerate((0, 0.06, 0.11)):
        played.send(ten(f"{turn}-"))
        played.stack.wait(3600)
        pollers = [played.stack.start("Poller")]
        played.stack.wait(apart_s)
        pollers.append(played.stack.start("Poller"))
        played.stack.wait(5)
        assert [poller.error for poller in pollers] == [None, None]
        # The one that found the batch taken went home.
        assert sorted(poller.answer["done"] for poller in pollers) == [0, 1]
    assert len(played.audited()) == 30
    assert played.stack.system().ledger.total().answered == 30


def test_a_schedule_that_fires_again_finds_nothing_to_do(stage):
    played = stage()
    played.play(ten())
    assert played.stack.invoke("Assembler") == {"drained": 0, "sealed": 0, "submitted": 0}
    assert played.stack.invoke("Poller") == {"done": 0}


# --- the account --------------------------------------------------------------------------------------------------


def test_an_account_without_quota_delays_a_batch_and_loses_nothing(stage):
    broke = Window(kind=WindowKind.QUOTA, from_s=0, to_s=7200)
    played = stage(Scenario(windows=(broke,)))
    records = played.play(ten())
    assert {record.attempts for record in records.values()} == {1}
    assert played.stack.letters() == []
    [batch] = played.stack.view().batches.scan()
    assert batch.setbacks > 0


def test_a_token_limit_puts_a_batch_off_without_counting_a_try(stage):
    played = stage(with_mishap(MishapKind.TOKEN_LIMIT, batches=(1,)))
    records = played.play(ten())
    assert {record.attempts for record in records.values()} == {1}
    assert played.asked(CREATE) == 2


# --- what is published --------------------------------------------------------------------------------------------


def published(text):
    """(name, value, dimensions) of every metric in EMF lines."""
    for line in text.splitlines():
        metrics = orjson.loads(line)
        for directive in metrics.get("_aws", {}).get("CloudWatchMetrics", []):
            [names] = directive["Dimensions"]
            for metric in directive["Metrics"]:
                value = metrics[metric["Name"]]
                yield metric["Name"], value[0] if isinstance(value, list) else value, {n: metrics[n] for n in names}


def test_scheduled_functions_publish_a_heartbeat_and_an_explicit_zero(stage, capsys):
    played = stage(metrics=None)
    for function in ("Assembler", "Poller"):
        played.stack.invoke(function)
    metrics = list(published(capsys.readouterr().out))
    deployment = {"deployment": "lowtide-on-moto"}
    for function in ("assembler", "poller"):
        assert ("heartbeat", 1, {**deployment, "function": function}) in metrics
    assert ("oldest_batch_age_s", 0, deployment) in metrics
    assert ("breaker_open", 0, deployment) in metrics
    assert ("account_held", 0, deployment) in metrics


def test_a_poller_that_fails_gives_no_heartbeat_and_still_tells_the_oldest_batchs_age(stage, monkeypatch):
    played = stage(Scenario(batch=HALF_AN_HOUR), by_hand={"Poller", "Reporter"})
    played.send(ten())
    played.stack.wait(3600)
    boto3.client("s3").delete_object(Bucket=played.stack.physical["Bucket"], Key=part_key(played))
    with pytest.raises(ExceptionGroup):
        played.stack.invoke("Poller")
    assert played.metrics.total("heartbeat", function="poller") == 0
    assert played.metrics.total("oldest_batch_age_s") > 0


def test_a_turn_of_the_poller_asks_once_which_batches_there_are(stage, monkeypatch):
    played = stage(Scenario(batch=HALF_AN_HOUR), by_hand={"Poller", "Reporter"})
    played.send(ten())
    played.stack.wait(3600)
    asked, active = [], DynamoRows.active
    monkeypatch.setattr(DynamoRows, "active", lambda rows: asked.append(rows._kind.name) or active(rows))
    assert played.stack.invoke("Poller") == {"done": 1}
    assert asked.count("batch") == 1
    assert played.metrics.total("oldest_batch_age_s") > 0, "it was open when the turn began"


def part_key(played):
    [key] = played.stack.system().objects.keys("parts/")
    return key


def test_a_batch_that_shares_limits_waits_for_critical_and_then_goes(stage):
    played = stage(by_hand={"ConsumerCritical", "Reporter"}, parameters={"RoutesParameter": "/routes"})
    routes = (files("lowtide") / "routes.toml").read_text("utf-8")
    shared = routes.replace('window = "24h"\n', 'window = "24h"\nbatch_shares_limits = true\n')
    boto3.client("ssm").put_parameter(Name="/routes", Value=shared, Type="String", Tier="Advanced")
    played.send(ten(), task("chat", "live_chat_response"))
    played.stack.wait(1800)
    assert [row.state for row in played.stack.system().batches.active()] == [BatchState.SEALED]
    assert played.metrics.total("submissions_held", reason="critical") >= 1
    assert (played.asked(CREATE), played.stack.failures) == (0, [])
    queue, taken = played.stack.queues["CriticalQueue"], played.received("CriticalQueue")
    assert played.stack.invoke("ConsumerCritical", taken) == {"batchItemFailures": []}
    queue.delete([record["receiptHandle"] for record in taken["Records"]])
    records = played.play()
    assert {record.status for record in records.values()} == {Status.ANSWERED}
    assert {name for name, record in records.items() if record.lane is Lane.BATCH} == {f"l{n}" for n in range(10)}
    assert played.asked(CREATE) == 1


def test_the_reporter_runs_on_the_same_deployment(stage):
    played = stage()
    played.send(ten())
    assert played.stack.invoke("Reporter") == {}
    assert played.metrics.total("heartbeat", function="reporter") == 1
