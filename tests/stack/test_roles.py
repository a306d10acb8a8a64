"""The policies of template.yaml and the calls of its functions, held against each other in both directions.

Every test on the stack is refused what a role does not allow (lowtide_local/stack/roles.py). The tests here play what
makes the functions use all that they may do, and name what is left with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import boto3
import orjson
import pytest
from moto import mock_aws
from stack_cases import TEMPLATE, low, pack, stages, task
from webhook_cases import connected, signing_secret, telling

from lowtide.core.lines import request_line
from lowtide.core.task import Endpoint
from lowtide.steps.cancel import cancel_tasks
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind
from lowtide_local.stack.delivery import ACCOUNT
from lowtide_local.stack.roles import Call, Grant, evaluator_of, grants_of
from lowtide_local.stack.runner import REGION
from lowtide_local.stack.template import load
from tests.template.sam_transform import transformed_with

REPLIES = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/replies"
BUS = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/ends"
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:sleeper"
ROUTES = "/lowtide/routes"
OVERLAY = f"""
[providers.openai]
batch_shares_limits = true
[tiers.HIGH]
cap = {{ depth = 1 }}
[limits]
reply_to = ["{REPLIES}"]
[types]
report_generation = {{ tier = "LOW", model = "auto" }}
"""
EVERYTHING = {
    "ReplyQueueArns": f"arn:aws:sqs:{REGION}:{ACCOUNT}:replies",
    "EventBusArn": BUS,
    "StateMachineArns": MACHINE,
    "RoutesParameter": ROUTES,
    "Tracing": "Active",
}
HOOK = {"WebhookSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hook"}
REFUSED = "[sim:refuse]"

USED_BY_LAMBDA = {
    ("sqs:GetQueueAttributes", "TakeFromIntake"): "the event source reads the queue's settings",
    ("sqs:GetQueueAttributes", "TakeAndGiveBack"): "the same",
    ("sqs:GetQueueAttributes", "TakeHints"): "the same",
    ("sqs:SendMessage", "TellMissedRuns"): "Lambda sends the event of a run that failed",
    ("logs:CreateLogStream", "Log"): "Lambda writes what a function prints",
    ("logs:PutLogEvents", "Log"): "the same",
    ("xray:PutTraceSegments", "Trace"): "Lambda sends its segments",
    ("xray:PutTelemetryRecords", "Trace"): "the same",
    ("s3:AbortMultipartUpload", "GiveUpUploads"): "the SDK gives up an upload of which a part failed",
}
"""Rights that no handler uses by itself, each with its reason."""


def send_with_token(played, body, queue="IntakeQueue"):
    boto3.client("sqs").send_message(
        QueueUrl=played.stack.queues[queue].url,
        MessageBody=orjson.dumps(body).decode(),
        MessageAttributes={"task_token": {"DataType": "String", "StringValue": f"token-of-{body.get('task_id')}"}},
    )


def with_everything(make, weather, **options):
    """A deployment that has all that the parameters can give it."""
    parameters = EVERYTHING | {"WebhookSecretArn": signing_secret()}
    played = make(telling(batch=weather), parameters=parameters, **options)
    boto3.client("sqs").create_queue(QueueName="replies")
    boto3.client("events").create_event_bus(Name="ends")
    bucket = played.stack.physical["Bucket"]
    boto3.client("s3").put_object(Bucket=bucket, Key="routes/1.toml", Body=OVERLAY.encode())
    boto3.client("ssm").put_parameter(Name=ROUTES, Type="String", Value=f"s3://{bucket}/routes/1.toml")
    return played


def choosing(task_id, text=""):
    """A LOW task whose model is asked for first."""
    payload = {"text": f"Which? [sim:says-simple] {text}"}
    return {"task_id": task_id, "type": "report_generation", "tenant": "acme", "payload": payload}


def fair_day(played):
    """Every tier, every way of telling, everything that may be too large for a message, and hints."""
    post = connected(played)
    cancel_tasks(played.stack.system(), [("acme", "early")])
    played.send(
        task("high", reply_to=REPLIES),
        task("high-again", text="[sim:503-once]"),
        task("voice", "voice_agent_reply", text="[sim:503-once]"),
        task("meeting", "meeting_summary", text="[sim:503-once]", reply_to=REPLIES),
        task("large", "meeting_summary", text="x" * 1_000_000 + REFUSED),
        low("carried", text="y" * 1_000_000),
        low("large-dead", text="z" * 1_000_000 + REFUSED),
        pack(low("a", reply_to=REPLIES), low("b", text=REFUSED), low("c", text="[sim:503-once]")),
        low("early", reply_to=REPLIES),
        choosing("asked"),
        choosing("asked-large", "w" * 1_000_000),
        "no task",
        orjson.dumps({"task_id": "large-refused", "type": "email_draft", "request": "v" * 1_000_000}).decode(),
    )
    for body in (task("wakes"), task("wakes-dead", text=REFUSED), low("low-dies", text=REFUSED), low("low-wakes")):
        send_with_token(played, body)
    send_with_token(played, {"task_id": "no"})
    nowhere = orjson.dumps({"v": 1, "carried": f"carried/{'0' * 64}.json"}).decode()
    played.stack.queues["NormalQueue"].send(nowhere, "a")
    played.stack.queues["StrandedQueue"].send(nowhere, "a")
    played.stack.queues["LowQueue"].send(orjson.dumps({"v": 99, "tasks": []}).decode(), "a")
    for _ in range(40):
        played.stack.wait(60)
        post.deliver()
    # Once more, when their first copies have ended.
    played.send(low("a", text="another"), low("carried", text="not " + "y" * 1_000_000))
    again = low("a", reply_to=REPLIES)
    for body in (low("b", text=REFUSED), again, task("large", "meeting_summary", text="x" * 1_000_000 + REFUSED)):
        send_with_token(played, body)
    send_with_token(played, again, "StrandedQueue")
    played.stack.wait(900)
    played.stack.invoke("Reporter")


def slow_day(played):
    """A full tier, a batch that is too slow for some of its tasks, and a task that came too late for one."""
    played.send(task("first"))
    played.stack.wait(30)
    played.send(task("held-back"))
    played.send(*(low(f"n{number}", deadline_seconds=7_200) for number in range(3)), low("far"))
    played.send(low("n-large", text="y" * 1_000_000, deadline_seconds=7_200))
    played.stack.wait(60)
    played.stack.invoke("Assembler")
    for _ in range(3):
        played.stack.wait(600)
        played.stack.invoke("Assembler")
    played.send(low("late-large", text="x" * 1_000_000, deadline_seconds=3_700))
    played.stack.wait(3_500)
    played.stack.invoke("Assembler")
    played.stack.wait(3_600)


def strange_lines(monkeypatch):
    """Have the provider write one line more into each output, which is about no task."""
    download, stranger = SimulatedProvider.download, request_line("nobody-1", Endpoint.CHAT, {})

    def with_a_stranger(provider, file_id, headers):
        sent = download(provider, file_id, headers)
        return replace(sent, content=stranger + sent.content)

    monkeypatch.setattr(SimulatedProvider, "download", with_a_stranger)


@dataclass(frozen=True)
class Played:
    """What one day's functions called, and the names that its resources had."""

    calls: frozenset[Call]
    physical: dict[str, str]
    parameters: dict[str, str]


@pytest.fixture(scope="module")
def days(read_once) -> list[Played]:
    slow = Mishap(kind=MishapKind.SLOW, batches=(1,), factor=120)
    by_hand = {"ConsumerHigh", "Assembler", "Reporter"}
    return [
        played_through(fair_day, BatchWeather(min_s=600, max_s=600)),
        played_through(slow_day, BatchWeather(min_s=600, max_s=600, cancel_s=60, mishaps=(slow,)), by_hand=by_hand),
    ]


def played_through(day, weather, **options) -> Played:
    with pytest.MonkeyPatch.context() as patched, mock_aws(), stages() as make:
        for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", REGION)):
            patched.setenv(f"AWS_{name}", value)
        strange_lines(patched)
        played = with_everything(make, weather, **options)
        day(played)
        stack = played.stack
        assert stack.failures == []
        return Played(frozenset(stack.roles.calls), dict(stack.physical), dict(stack.template.parameters))


@pytest.fixture(scope="module")
def document():
    """What CloudFormation gets."""
    return transformed_with(load(TEMPLATE), {})


def test_every_call_that_a_function_makes_is_allowed_to_its_role(days, document):
    missing, _ = compared(document, days)
    assert sorted(map(str, missing)) == []
    assert {call.caller for day in days for call in day.calls} == set(load(TEMPLATE, EVERYTHING | HOOK).functions)


def test_every_right_of_a_role_is_used_or_is_lambdas_for_a_reason(days, document):
    _, unused = compared(document, days)
    assert [str(grant) for grant in unused if (grant.action, grant.sid) not in USED_BY_LAMBDA] == []
    assert {(grant.action, grant.sid) for grant in unused} == USED_BY_LAMBDA.keys(), "and no reason is left over"


def test_without_any_one_right_a_call_is_refused(days, document):
    """Each statement's actions are taken away one by one."""
    _, unused = compared(document, days)
    idle = {(grant.role, grant.sid, grant.action) for grant in unused}
    narrower = dict(less_by_one(document, set(function_roles(document).values())))
    spare = [name for name, edited in narrower.items() if name not in idle and not compared(edited, days)[0]]
    assert spare == []
    assert len(narrower) > 80


@pytest.mark.parametrize(
    ("role", "action", "resource"),
    [
        ("AssemblerRole", "dynamodb:DeleteItem", {"Fn::GetAtt": ["Table", "Arn"]}),
        ("PollerRole", "dynamodb:Query", {"Fn::Sub": "${Table.Arn}/index/dead"}),
        ("ConsumerRole", "s3:PutObject", {"Fn::Sub": "${Bucket.Arn}/raw/*"}),
        ("IngestRole", "sqs:SendMessage", {"Fn::GetAtt": ["StrandedQueue", "Arn"]}),
        ("WebhookRole", "secretsmanager:GetSecretValue", {"Ref": "ProviderSecretArn"}),
        ("ReporterRole", "s3:ListBucket", {"Fn::GetAtt": ["Bucket", "Arn"]}),
    ],
)
def test_a_right_that_no_function_uses_is_found(days, document, role, action, resource):
    wider = deepcopy(document)
    statement = {"Sid": "Added", "Effect": "Allow", "Action": action, "Resource": resource}
    wider["Resources"][role]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].append(statement)
    _, unused = compared(wider, days)
    assert [grant.action for grant in unused if grant.sid == "Added"] == [action]


def test_a_function_is_refused_what_its_role_does_not_allow(stage, tmp_path, monkeypatch):
    """As AWS does it: the call fails, and with it the run. What was there before stays as it was."""
    text = TEMPLATE.read_text("utf-8")
    narrower = tmp_path / "template.yaml"
    narrower.write_text(
        text.replace("Action: [sqs:ReceiveMessage, sqs:DeleteMessage]\n", "Action: sqs:DeleteMessage\n")
    )
    assert narrower.read_text("utf-8") != text
    monkeypatch.setattr("stack_cases.TEMPLATE", narrower)
    played = stage()
    played.stack.wait(70)
    assert {(call.caller, call.need.action) for call in played.stack.roles.refused} == {
        ("Poller", "sqs:ReceiveMessage")
    }
    [(function, error)] = played.stack.failures
    assert function == "Poller"
    assert "AccessDenied" in repr(error.exceptions)
    played.stack.roles.refused.clear()


def less_by_one(document, roles) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
    """((role, statement, action), the document without that action) of every action of these roles."""
    for role in sorted(roles):
        [policy] = document["Resources"][role]["Properties"]["Policies"]
        for place, written in enumerate(policy["PolicyDocument"]["Statement"]):
            statement = written["Fn::If"][1] if "Fn::If" in written else written
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            for action in actions:
                edited = deepcopy(document)
                [changed] = edited["Resources"][role]["Properties"]["Policies"]
                there = changed["PolicyDocument"]["Statement"][place]
                target = there["Fn::If"][1] if "Fn::If" in there else there
                target["Action"] = [each for each in actions if each != action]
                yield (role, statement["Sid"], action), edited


def function_roles(document) -> dict[str, str]:
    return {
        name: resource["Properties"]["Role"]["Fn::GetAtt"][0]
        for name, resource in document["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
    }


def compared(document: dict[str, Any], days: list[Played]) -> tuple[set[Call], set[Grant]]:
    """(calls that the document's policies do not allow, grants that no call used), over all days."""
    missing: set[Call] = set()
    unused: set[Grant] | None = None
    for day in days:
        evaluator = evaluator_of(document, day.parameters, day.physical, REGION)
        granted = grants_of(document["Resources"], evaluator)
        roles, used = function_roles(document), set()
        for call in day.calls:
            allowing = [grant for grant in granted[roles[call.caller]] if grant.allows(call.need)]
            used.update(allowing)
            if not allowing:
                missing.add(call)
        left = {nameless(grant, day) for role in set(roles.values()) for grant in granted[role] if grant not in used}
        unused = left if unused is None else unused & left
    return missing, unused or set()


def nameless(grant: Grant, day: Played) -> Grant:
    """Return the grant with logical ids in it: each day's stack has physical names of its own."""
    resource = grant.resource
    named = day.parameters | {name: physical.rpartition("/")[2] for name, physical in day.physical.items()}
    for name, value in sorted(named.items(), key=lambda pair: -len(pair[1])):
        resource = resource.replace(value, name)
    return replace(grant, resource=resource)
