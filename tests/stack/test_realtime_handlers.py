"""Ingest and the consumers, invoked by the event sources of template.yaml."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import boto3
import pytest
from stack_cases import START, pack, task

from lowtide.core.errors import ConfigError
from lowtide.core.lanes import Lane
from lowtide.core.records import Status
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario, Window, WindowKind

CHAT = "POST /v1/chat/completions"


def test_a_broken_task_in_a_pack_is_a_dead_letter_and_its_neighbours_are_answered(stage):
    played = stage()
    records = played.play(pack(task("a"), task("b", priority="URGENT"), task("c", "live_chat_response")))
    assert {name: record.status for name, record in records.items()} == {"a": "answered", "c": "answered"}
    letter, attributes = played.letters()["invalid_task"]
    assert letter["task"]["task_id"] == "b"
    assert "priority" in letter["error"]["message"]
    assert {name: attributes[name] for name in ("code", "tenant", "type")} == {
        "code": "invalid_task",
        "tenant": "acme",
        "type": "email_draft",
    }


def test_every_tier_goes_to_its_own_consumer(stage):
    played = stage()
    records = played.play(
        task("now", "safety_check"), task("soon"), task("later", "meeting_summary"), task("bulk", "content_generation")
    )
    assert {name: (record.tier.value, record.lane) for name, record in records.items()} == {
        "now": ("CRITICAL", Lane.DEFAULT),
        "soon": ("HIGH", Lane.DEFAULT),
        "later": ("NORMAL", Lane.FLEX),
        "bulk": ("LOW", Lane.BATCH),
    }
    consumers = ("ConsumerCritical", "ConsumerHigh", "ConsumerNormal")
    assert [played.stack.invoked[name] for name in consumers] == [1, 1, 1]
    assert played.stack.failures == []


def test_what_is_never_batched_is_not_batched_when_its_sender_asks_for_it(stage):
    records = stage().play(task("asked-low", "fraud_detection", priority="LOW"))
    assert records["asked-low"].lane is not Lane.BATCH


def test_a_message_that_has_to_wait_comes_back_and_its_neighbours_are_deleted(stage):
    played = stage()
    played.send(task("fails-once", text="[sim:503-once]"), task("fine"))
    played.stack.wait(1)
    assert played.records().keys() == {"fine"}
    assert played.stack.queues["HighQueue"].depth == 1
    records = played.play()
    assert records["fails-once"].status is Status.ANSWERED
    assert {name: record.attempts for name, record in records.items()} == {"fails-once": 2, "fine": 1}
    # The first wait is 2 s, less its jitter: the handler set it, and the failure left it as it was.
    assert 1 <= (records["fails-once"].finished_at - START).total_seconds() < 5


def test_a_pack_whose_one_task_has_to_wait_does_not_ask_for_the_others_again(stage):
    played = stage()
    records = played.play(pack(task("x"), task("fails-twice", text="[sim:500-twice]"), task("y")))
    assert {name: record.attempts for name, record in records.items()} == {"x": 1, "fails-twice": 3, "y": 1}
    assert played.asked(CHAT) == 5


def test_a_message_that_is_delivered_again_is_answered_once(stage):
    played = stage(by_hand={"ConsumerHigh"})
    played.send(task("a"))
    played.stack.wait(1)
    event = played.received("HighQueue")
    assert played.stack.invoke("ConsumerHigh", event) == {"batchItemFailures": []}
    first = played.audited()
    assert played.stack.invoke("ConsumerHigh", event) == {"batchItemFailures": []}
    assert played.audited() == first
    assert first.keys() == {"a"}
    assert played.asked(CHAT) == 1
    assert played.stack.system().ledger.total().duplicates == 0


def test_ingest_may_forward_a_message_twice(stage):
    played = stage(by_hand={"Ingest"})
    played.send(task("a"))
    event = played.received("IntakeQueue")
    for _ in range(2):
        assert played.stack.invoke("Ingest", event) == {"batchItemFailures": []}
    played.stack.wait(1)
    assert played.audited().keys() == {"a"}
    assert played.asked(CHAT) == 1
    assert played.stack.system().ledger.total().duplicates == 0


def test_the_same_task_in_another_message_is_a_duplicate(stage):
    played = stage()
    records = played.play(task("a"), task("a", created_at="2026-03-02T09:59:00Z"))
    assert records.keys() == {"a"}
    assert played.asked(CHAT) == 1
    assert played.stack.system().ledger.total().duplicates == 1
    assert played.stack.letters() == []


def test_a_duplicate_that_meets_its_task_in_flight_waits_and_is_dropped(stage):
    played = stage(Scenario(latency=Latencies(default=Latency(min_s=20, max_s=20))))
    records = played.play(task("a"), pack(task("a"), task("b")))
    assert records.keys() == {"a", "b"}
    assert len(played.line.provider.billed) == 2
    assert played.stack.system().ledger.total().duplicates == 1


def test_another_task_under_a_taken_id_is_a_dead_letter_and_the_first_is_untouched(stage):
    played = stage()
    first = played.play(task("a", text="first"))
    records = played.play(task("a", text="second"))
    assert records == first
    letter, attributes = played.letters()["id_conflict"]
    assert letter["task"]["request"]["body"]["messages"][0]["content"] == "second a"
    assert (attributes["code"], attributes["tenant"], attributes["type"]) == ("id_conflict", "acme", "email_draft")
    assert played.stack.system().ledger.total().refused == 1


def test_the_same_id_belongs_to_each_tenant_on_its_own(stage):
    played = stage()
    played.send(task("a"), task("a", tenant="globex", text="other"))
    played.stack.settle()
    assert {row.tenant for row in played.rows()} == {"acme", "globex"}
    assert played.asked(CHAT) == 2


def test_a_task_that_cannot_succeed_is_a_dead_letter_with_its_reason_as_attributes(stage):
    played = stage()
    sent = task("p", text="[sim:refuse]", tags={"team": "growth"})
    records = played.play(sent)
    assert records["p"].status is Status.DEAD
    assert records["p"].error.code == "content_policy_violation"
    letter, attributes = played.letters()["content_policy_violation"]
    assert letter["task"] == sent
    assert letter["error"]["provider_status"] == 400
    assert (letter["error"]["attempts"], letter["error"]["batch_id"]) == (1, None)
    named = {"code": "content_policy_violation", "tenant": "acme", "type": "email_draft"}
    assert attributes == {**named, "id": attributes["id"]}
    assert attributes["id"].startswith(records["p"].id)


def test_what_fails_three_times_is_dead(stage):
    records = stage().play(task("p", text="[sim:500]"))
    assert (records["p"].status, records["p"].attempts) == (Status.DEAD, 3)


def test_a_task_that_flex_has_no_room_for_is_bought_at_list_price_in_time(stage):
    played = stage()
    records = played.play(task("n", "meeting_summary", text="[sim:flex-unavailable]"))
    record = records["n"]
    assert (record.status, record.lane, record.deadline_met) == (Status.ANSWERED, Lane.DEFAULT, True)
    assert record.cost_usd == record.list_cost_usd
    # Refusals, which cost nothing and count as no failure, and the answer.
    assert played.row("n").strikes.failures == 0
    assert 3 < record.attempts == played.metrics.total("flex_refused") + 1 < 30


def test_flex_that_has_room_again_halves_the_price(stage):
    record = stage().play(task("n", "meeting_summary", text="[sim:flex-unavailable-once]"))["n"]
    assert record.lane is Lane.FLEX
    assert record.cost_usd == record.list_cost_usd / 2


def test_a_storm_of_429s_delays_tasks_and_kills_none(stage):
    storm = Window(kind=WindowKind.RATE_LIMIT, from_s=0, to_s=20)
    played = stage(Scenario(windows=(storm,)))
    packs = [pack(*(task(f"{many}-{one}") for one in range(5))) for many in range(2)]
    records = played.play(*packs)
    assert len(records) == 10
    assert {record.status for record in records.values()} == {Status.ANSWERED}
    assert {row.strikes.failures for row in played.rows()} == {0}
    assert played.metrics.total("calls_put_off") >= 10
    assert min(record.finished_at for record in records.values()) >= START + timedelta(seconds=20)
    assert all(record.deadline_met for record in records.values())


def test_a_poison_message_is_one_dead_letter_with_its_raw_text_and_stops_nobody(stage):
    poison = [
        "not json",
        '{"tasks": "none"}',
        "[1, 2]",
        '{"task_id": "cut',
        "null",
        '{"tasks": []}',
        '{"a": "\U0001f600"}',
    ]
    played = stage()
    records = played.play(*poison[:4], task("fine"), *poison[4:], task("fine-too"))
    assert records.keys() == {"fine", "fine-too"}
    letters = [letter for letter, _ in played.stack.letters()]
    assert [letter["error"]["code"] for letter in letters] == ["invalid_task"] * len(poison)
    assert {"not json", '{"task_id": "cut'} <= {letter["task"] for letter in letters if isinstance(letter["task"], str)}
    assert played.stack.system().ledger.total().refused == len(poison)
    assert played.stack.failures == []


def test_a_delivery_with_hostile_megabytes_in_it_is_over_at_once_and_its_neighbours_are_answered(stage):
    """A function has ten seconds: the names alone used to take it half a minute."""
    names = ",".join(f'"{number}":0' for number in range(60_000))
    hostile = [
        f'{{{names},"x":0,"x":0}}',
        '{"tasks":[' + "1," * 400_000 + "1]}",
        "[" * 1_000_000,
        json.dumps(task("tags", type=7) | {"tags": {str(number): number for number in range(50_000)}}),
    ]
    played = stage()
    records = played.play(*hostile, *[task(f"good-{number}") for number in range(6)])
    assert records.keys() == {f"good-{number}" for number in range(6)}
    assert len(played.stack.letters()) == len(hostile)
    assert played.stack.failures == []


def test_control_characters_in_a_refused_task_are_a_dead_letter_each_and_stop_nobody(stage):
    hostile = [
        json.dumps(task(f"bad-{field}", request={"url": "/v1/nope", "body": {}}) | {field: text})
        for field, text in {
            "type": "\x1b[31m",
            "tenant": "\x00",
            "traceparent": "\x07",
            "tags": {"\x01": "\ufffe"},
        }.items()
    ]
    played = stage()
    records = played.play(*hostile[:2], task("fine"), *hostile[2:], task("fine-too"))
    assert records.keys() == {"fine", "fine-too"}
    attributes = [beside for _, beside in played.stack.letters()]
    assert sorted(beside["type"] for beside in attributes) == ["?[31m", "email_draft", "email_draft", "email_draft"]
    assert sorted(beside["tenant"] for beside in attributes) == ["?", "acme", "acme", "acme"]
    assert played.stack.failures == []


def test_a_message_that_no_ingest_wrote_is_a_dead_letter_of_its_own(stage):
    played = stage()
    for queue in ("CriticalQueue", "NormalQueue", "LowQueue"):
        played.stack.queues[queue].send('{"surprise": true}', "acme")
    played.stack.queues["HighQueue"].send('{"carried": "carried/nowhere.json"}', "acme")
    records = played.play(task("fine"))
    assert records.keys() == {"fine"}
    assert [letter["error"]["code"] for letter, _ in played.stack.letters()] == ["invalid_task"] * 4
    assert played.stack.failures == []


# --- what is too large --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "lane"), [("email_draft", Lane.DEFAULT), ("content_generation", Lane.BATCH)])
def test_a_task_too_large_for_a_tiers_queue_goes_by_claim_check(stage, kind, lane):
    played = stage()
    records = played.play(task("large", kind, text="x" * 1_000_000))
    assert (records["large"].status, records["large"].lane) == (Status.ANSWERED, lane)
    assert len(list(played.stack.system().objects.keys("carried/"))) == 1


def test_an_answer_too_large_for_a_row_is_read_by_its_pointer(stage):
    played = stage(Scenario(embedding_dimensions=12_000))
    request = {"url": "/v1/embeddings", "body": {"model": "text-embedding-3-small", "input": "hello"}}
    records = played.play({"task_id": "e", "priority": "HIGH", "request": request})
    row = played.row("e")
    assert row.document is None
    assert row.pointer.length > 100 * 1024
    assert len(records["e"].response.body["data"][0]["embedding"]) == 12_000
    assert records["e"].cost_usd > Decimal(0)


# --- the account --------------------------------------------------------------------------------------------------


def test_a_refused_key_loses_nothing_and_a_new_one_is_read_again(stage):
    played = stage(Scenario(api_key="the new one"))
    played.send(task("a"), task("n", "meeting_summary"), task("l", "content_generation"))
    played.stack.wait(3600)
    assert played.records() == {}
    assert played.metrics.total("account_refused") >= 2
    assert {row.strikes.failures for row in played.rows()} == {0}
    assert played.stack.letters() == []
    boto3.client("secretsmanager").put_secret_value(SecretId="provider", SecretString="the new one")
    records = played.play()
    assert {name: record.status for name, record in records.items()} == dict.fromkeys(("a", "n", "l"), "answered")
    assert not records["a"].deadline_met


def test_a_secret_without_a_key_loses_nothing_and_counts_nothing_as_repaid(stage):
    played, secrets = stage(), boto3.client("secretsmanager")
    secrets.put_secret_value(SecretId="provider", SecretString="{}")
    played.send(task("a"), task("l", "content_generation"))
    played.stack.wait(1800)
    assert played.records() == {}
    assert played.metrics.total("account_refused") >= 2
    assert {(row.strikes.failures, row.repaid) for row in played.rows()} == {(0, 0)}
    assert played.stack.letters() == []
    secrets.put_secret_value(SecretId="provider", SecretString='{"openai": "sk-1"}')
    records = played.play()
    assert {name: record.status for name, record in records.items()} == dict.fromkeys(("a", "l"), "answered")


def test_a_tier_past_its_cap_leaves_its_messages_at_the_intake_until_it_has_room(stage):
    played = stage(by_hand={"ConsumerHigh"}, parameters={"RoutesParameter": "/routes"})
    boto3.client("ssm").put_parameter(Name="/routes", Value="[tiers.HIGH]\ncap = { depth = 1 }", Type="String")
    played.send(task("first"))
    played.stack.wait(6)
    played.send(task("second"), task("other", "meeting_summary"))
    played.stack.wait(6)
    assert played.records().keys() == {"other"}
    assert [played.stack.queues[name].depth for name in ("HighQueue", "IntakeQueue")] == [1, 1]


def test_tasks_that_come_by_sns_or_eventbridge_are_answered_and_other_events_are_named_in_their_letter(stage):
    sns = {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-central-1:1:tasks", "MessageId": "m"}
    bridge = {"version": "0", "detail-type": "order placed", "source": "com.acme.shop"}
    played = stage()
    records = played.play(
        sns | {"Message": json.dumps(task("by-sns"))},
        bridge | {"detail": task("by-bridge")},
        sns | {"Message": json.dumps(bridge | {"detail": pack(task("by-both"), task("beside", "content_generation"))})},
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"},
        task("bare"),
    )
    assert {name: record.status for name, record in records.items()} == dict.fromkeys(
        ("by-sns", "by-bridge", "by-both", "beside", "bare"), "answered"
    )
    letter, _ = played.letters()["invalid_task"]
    assert "the test event that S3 sends" in letter["error"]["message"]
    assert letter["task"]["Event"] == "s3:TestEvent"


def test_a_function_that_a_queue_invokes_refuses_every_other_event_and_says_what_it_takes(stage):
    stack = stage().stack
    for function in ("Ingest", "ConsumerCritical"):
        for event in ({"key1": "value1"}, {}, {"Records": [{"eventSource": "aws:s3", "s3": {}}]}, {"Records": "x"}):
            with pytest.raises(ConfigError, match="takes events of SQS"):
                stack.invoke(function, event)


def test_a_scheduled_function_takes_its_turn_whatever_the_event(stage):
    stack = stage().stack
    assert stack.invoke("Assembler", {"key1": "value1"})["drained"] == 0
    assert stack.invoke("Poller", {"key1": "value1"}) == {"done": 0}
