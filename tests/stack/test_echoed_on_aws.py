"""What a provider repeats of keys and prompts comes out of no deployed function: logs, queues, table, objects."""

from __future__ import annotations

import json
import logging
from typing import Any

import boto3
import httpx2
import pytest
from stack_cases import Stage, low, task

from lowtide.adapters.aws.metrics import EmfMetrics
from lowtide_local.simulator.app import build_app
from tests.canary.echoing import CALLS, KEY, LINES, SECRET, SECRETS, Echoing

KINDS = ("400", "code", "html", "422", "500", "garbage", "failed")


def leaks(text: str, *, prompts: bool = True) -> list[str]:
    return [secret for secret in SECRETS if secret in text and (prompts or secret != SECRET)]


def echoed(played: Stage) -> Echoing:
    """The stack's provider, with what repeats keys and prompts before it, and a key of ours."""
    played.stack.system()  # a function is wired before it has anything to log
    app = Echoing(build_app(played.line.provider))
    played.line._app = httpx2.ASGITransport(app=app)
    boto3.client("secretsmanager").put_secret_value(SecretId="provider", SecretString=KEY)
    return app


def told_to_operators(printed: Any, caplog: Any) -> str:
    captured = printed.readouterr()
    return captured.out + captured.err + caplog.text + "".join(str(record.__dict__) for record in caplog.records)


@pytest.fixture
def at_debug_level(monkeypatch, caplog):
    for name in ("OPENAI_LOG", "POWERTOOLS_LOG_LEVEL", "LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL"):
        monkeypatch.setenv(name, "debug" if name == "OPENAI_LOG" else "DEBUG")
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2", "botocore", "urllib3", "boto3"):
        caplog.set_level(logging.DEBUG, logger=name)


def stored() -> str:
    """Everything in the bucket and in the table."""
    s3, dynamodb = boto3.client("s3"), boto3.client("dynamodb")
    [bucket] = [each["Name"] for each in s3.list_buckets()["Buckets"]]
    objects = [
        s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read().decode(errors="replace")
        for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    ]
    tables = [dynamodb.scan(TableName=name)["Items"] for name in dynamodb.list_tables()["TableNames"]]
    return "\n".join([*objects, repr(tables)])


def test_the_deployed_functions_pass_on_no_key_and_no_prompt(stage, at_debug_level, capfd, caplog):
    played = stage(metrics=EmfMetrics("canary"))
    provider = echoed(played)
    calls = [task(kind, text=f"{SECRET} [echo:{kind}]") for kind in KINDS]
    lines = [low(kind, text=f"{SECRET} [echo:{kind}]") for kind in LINES]
    played.send(*calls, *lines)
    played.stack.settle()
    records = played.records()
    assert set(KINDS) <= set(CALLS)
    assert {record.status.value for record in records.values()} == {"dead"}
    assert len(records) == len(KINDS) + len(LINES)
    assert provider.echoes >= len(records)
    for record in records.values():
        assert leaks(record.model_dump_json()) == [], record.task_id
    letters = played.stack.letters()
    assert {letter["task"]["task_id"] for letter, _ in letters} == set(records)
    for letter, attributes in letters:
        assert leaks(json.dumps([letter["error"], attributes])) == []
    assert leaks(stored(), prompts=False) == []
    assert leaks(told_to_operators(capfd, caplog)) == []
    assert played.stack.failures == []


def test_a_refused_account_is_logged_without_key_and_prompt(stage, at_debug_level, capfd, caplog):
    played = stage(metrics=EmfMetrics("canary"))
    echoed(played)
    played.send(task("a", text=f"{SECRET} [echo:401]"))
    played.stack.wait(120)
    told = told_to_operators(capfd, caplog)
    assert "account_refused" in told
    assert leaks(told) == []
    assert [leaks(repr(failure)) for failure in played.stack.failures if leaks(repr(failure))] == []
    assert leaks(stored(), prompts=False) == []


def test_a_refused_batch_is_logged_without_key_and_prompt(stage, at_debug_level, capfd, caplog):
    played = stage(metrics=EmfMetrics("canary"))
    echoed(played).refuses_batches = True
    played.send(low("a", text=SECRET), low("b", text=SECRET))
    played.stack.wait(3_600)
    told = told_to_operators(capfd, caplog)
    assert "submission_refused" in told
    assert leaks(told) == []
    assert leaks(stored(), prompts=False) == []
