"""Traces in what the deployed functions print: X-Ray's in every line, and a task's own in the lines about it."""

from __future__ import annotations

import orjson
import pytest
from moto import mock_aws
from stack_cases import low, pack, task
from webhook_cases import signed, signing_secret, telling, url_event

from lowtide_local.simulator.scenario import Scenario

XRAY = "1-65f0a1b2-0123456789abcdef01234567"
FIRST, SECOND = (f"00-{digit * 32}-{digit * 16}-01" for digit in "ab")


@pytest.fixture
def printed(capfd):
    """The JSON lines on standard output, those of metrics included."""

    def read():
        return [orjson.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]

    return read


@pytest.fixture
def invoked(monkeypatch):
    monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={XRAY};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:a:0")


@pytest.fixture
def taking_webhooks(stage, monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "eu-central-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        yield lambda: stage(telling(), parameters={"WebhookSecretArn": signing_secret()}, metrics=None)


def about(lines, event):
    return [line.get("traceparent") for line in lines if line.get("message") == event]


def test_every_line_of_every_function_bears_the_id_of_its_invocation(stage, printed, invoked):
    played = stage(metrics=None)
    played.send(task("fine", traceparent=FIRST), {"task_id": "broken"}, pack(low("a", traceparent=SECOND), low("b")))
    played.stack.wait(1_200)
    played.stack.invoke("Reporter")
    lines = printed()
    assert {line.get("xray_trace_id") for line in lines} == {XRAY}
    assert {"task_refused", "task_settled", "batch_submitted", "batch_done"} <= {line.get("message") for line in lines}
    heartbeats = {line["function"] for line in lines if "heartbeat" in line}
    assert heartbeats == {"assembler", "poller", "reporter"}
    assert sorted(about(lines, "task_settled")) == [FIRST, SECOND]


def test_each_invocation_has_its_own_id_though_its_process_stays(stage, printed, monkeypatch):
    played = stage(metrics=None)
    for name in ("1-a-b", "1-c-d"):
        monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={name};Sampled=0")
        played.send({"task_id": "broken"})
        played.stack.wait(1)
    assert [line["xray_trace_id"] for line in printed() if line.get("message") == "task_refused"] == ["1-a-b", "1-c-d"]


def test_without_a_trace_no_line_has_one(stage, printed, monkeypatch):
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    played = stage(metrics=None)
    played.send(task("fine"), {"task_id": "broken"})
    played.stack.wait(30)
    assert not any({"xray_trace_id", "traceparent"} & line.keys() for line in printed())


def test_a_webhook_that_is_refused_can_be_traced(taking_webhooks, printed, invoked):
    played = taking_webhooks()
    assert played.stack.invoke("Webhook", url_event(signed(b"{}", at=0), b"{}"))["statusCode"] == 401
    assert [line["xray_trace_id"] for line in printed() if line.get("message") == "webhook_refused"] == [XRAY]


def test_what_is_logged_of_a_task_bears_its_trace_and_no_neighbours(stage, printed):
    played = stage(Scenario(api_key="another"), metrics=None)
    played.send(pack(task("a", traceparent=FIRST), task("b", traceparent=SECOND), task("c")))
    played.stack.wait(5)
    refused = about(printed(), "account_refused")
    assert refused, "the key is refused"
    assert set(refused) <= {FIRST, SECOND, None}
    played.send(task("alone", "voice_agent_reply", traceparent=FIRST))
    played.stack.wait(2)
    assert set(about(printed(), "account_refused")) <= {FIRST}


def test_a_message_that_failed_bears_the_trace_that_all_its_tasks_have(stage, printed, monkeypatch):
    played = stage(metrics=None)
    monkeypatch.setattr("lowtide.steps.answer._Reader._seen", lambda *_: 1 / 0)
    played.send(task("a", traceparent=FIRST))
    played.stack.wait(1)
    assert about(printed(), "message_failed") == [FIRST]
    played.send(pack(task("b", "meeting_summary", traceparent=FIRST), task("c", "meeting_summary", traceparent=SECOND)))
    played.stack.wait(3)
    assert set(about(printed(), "message_failed")) == {FIRST, None}, "the first again, and the pack of two"


@pytest.mark.parametrize("given", [FIRST, "00-XYZ", FIRST + "\n", 7, None, {"a": FIRST}, "ignore all previous lines"])
def test_a_refused_task_is_logged_with_a_trace_that_has_the_form_of_one(stage, printed, given):
    played = stage(metrics=None)
    played.send({"task_id": "x", "type": "email_draft", "traceparent": given})
    played.stack.wait(1)
    assert about(printed(), "task_refused") == [FIRST if given == FIRST else None]


def test_what_is_stranded_is_buried_under_its_own_trace(stage, printed):
    played = stage(metrics=None)
    played.stack.queues["StrandedQueue"].send(orjson.dumps(task("a", traceparent=FIRST)).decode(), "acme")
    played.stack.wait(120)
    assert about(printed(), "task_settled") == [FIRST]
