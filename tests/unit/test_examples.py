"""docs/examples: the state machine, the rule and the receiver do what docs/events.md says."""

from __future__ import annotations

import importlib.util
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.acceptance import accept
from lowtide.core.outward import SOURCE, EventKind
from lowtide.steps.accept import SLEEPERS_ATTRIBUTE

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
FORMATS = {"States.Format('{}-{}', $$.Execution.Name, $$.State.Name)": "run-7-Ask", "$.text": "Hello"}


def machine() -> dict[str, Any]:
    return json.loads((EXAMPLES / "agent.asl.json").read_text(encoding="utf-8"))


def composed(value: Any) -> Any:
    """As Step Functions would: a name that ends in ``.$`` takes its value from the state's input and context."""
    if not isinstance(value, dict):
        return value
    return {
        name.removesuffix(".$"): FORMATS[inner] if name.endswith(".$") else composed(inner)
        for name, inner in value.items()
    }


def test_every_state_leads_to_one_that_is_there_or_ends():
    states = machine()["States"]
    assert machine()["StartAt"] in states
    for name, state in states.items():
        branches = [*state.get("Catch", []), *state.get("Choices", [])]
        nexts = [each["Next"] for each in branches] + [state[key] for key in ("Next", "Default") if key in state]
        assert set(nexts) <= states.keys(), name
        assert nexts or state.get("End") or state["Type"] in ("Fail", "Succeed"), name


def test_the_message_that_the_state_machine_sends_is_a_task():
    message = composed(machine()["States"]["Ask"]["Parameters"]["MessageBody"])
    task = accept(message, origin="m/0", sent_at=datetime(2026, 3, 2, tzinfo=UTC), routes=shipped_routes())
    assert (task.task_id, task.type, task.message["payload"]) == ("run-7-Ask", "content_generation", {"text": "Hello"})


def test_the_state_machine_sends_its_token_where_ingest_looks_for_it_and_outwaits_the_deadline():
    ask = machine()["States"]["Ask"]
    assert ask["Resource"].endswith(".waitForTaskToken")
    attribute = ask["Parameters"]["MessageAttributes"][SLEEPERS_ATTRIBUTE]
    assert attribute == {"DataType": "String", "StringValue.$": "$$.Task.Token"}
    assert ask["TimeoutSeconds"] > 86_400


def test_the_rule_names_what_events_carry():
    rule = json.loads((EXAMPLES / "late_tasks.rule.json").read_text(encoding="utf-8"))
    assert (rule["source"], rule["detail-type"]) == ([SOURCE], [EventKind.TASK.value])


@pytest.fixture
def receiver(monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("SEEN_TABLE", "seen")
    spec = importlib.util.spec_from_file_location("receiver", EXAMPLES / "receiver.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with mock_aws():
        boto3.client("dynamodb").create_table(
            TableName="seen",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        yield module


def test_the_receiver_drops_repeats_and_works_again_after_a_crash(receiver, monkeypatch):
    worked: list[str] = []
    events = [{"detail": {"id": name}} for name in ("rec_1.0", "rec_1.0", "rec_1.1")]
    monkeypatch.setattr(receiver, "work", lambda detail: worked.append(detail["id"]))
    assert [receiver.handler(event, None) for event in events] == ["done", "repeat", "done"]
    assert worked == ["rec_1.0", "rec_1.1"]

    def crash(_detail: dict[str, Any]) -> None:
        raise RuntimeError

    monkeypatch.setattr(receiver, "work", crash)
    later = {"detail": {"id": "rec_2.0"}}
    with pytest.raises(RuntimeError):
        receiver.handler(later, None)
    monkeypatch.setattr(receiver, "work", lambda detail: worked.append(detail["id"]))
    assert receiver.handler(later, None) == "done"
