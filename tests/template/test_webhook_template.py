"""What template.yaml has for webhooks, and that nothing of it is there where nobody asked."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from deployed_resources import as_list, of_type
from moto import mock_aws

from lowtide.adapters.aws.webhook_ids import MEMORY, PARTITIONS
from lowtide.core.routes import Routes
from lowtide.core.webhooks import TOLERANCE
from lowtide.settings import Settings, variable
from lowtide_local.stack.template import QueueSource, load, transform

ROOT = Path(__file__).parents[2]
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hooks-AbCdEf"
OURS = {"HintQueue", "TlsOnlyHints", "Hinted", "HintedLogs", "Webhook", "WebhookRole", "WebhookLogs"}


@pytest.fixture(scope="module")
def taking():
    """The template of a deployment that takes webhooks."""
    return load(ROOT / "template.yaml", {"WebhookSecretArn": SECRET})


def statements(role):
    """What is always granted, without what stands under a condition."""
    [policy] = role["Properties"]["Policies"]
    return [statement for statement in policy["PolicyDocument"]["Statement"] if "Sid" in statement]


def test_without_a_signing_key_there_is_no_url_no_queue_and_no_function(template, deployed):
    assert template.document["Conditions"]["TakesWebhooks"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "WebhookSecretArn"}, ""]}]
    }
    assert {"Hinted", "Webhook"}.isdisjoint(template.functions)
    assert "HintQueue" not in transform(template)["Resources"]
    conditional = {
        name
        for name, resource in deployed.items()
        if resource.get("Condition") == "TakesWebhooks"
        and resource["Type"] not in {"AWS::Lambda::Alias", "AWS::Lambda::Version"}
    }
    made = {"HintedHints", "WebhookUrl", "WebhookUrlPermission", "WebhookInvokePermission"}
    assert conditional == OURS | made


def test_without_a_signing_key_every_setting_about_webhooks_is_blank(template):
    environment = template.functions["Poller"].environment
    assert (environment["LOWTIDE_HINTS_URL"], environment["LOWTIDE_WEBHOOK_SECRET_ARN"]) == ("", "")


def test_moto_creates_the_queue_of_hints_and_its_outputs(taking, monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        cloudformation = boto3.client("cloudformation")
        cloudformation.create_stack(StackName="tide", TemplateBody=json.dumps(transform(taking)))
        [stack] = cloudformation.describe_stacks(StackName="tide")["Stacks"]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        boto3.client("sqs").send_message(QueueUrl=outputs["HintQueueUrl"], MessageBody="{}")


def test_both_functions_have_every_setting_under_its_name(taking):
    named = {variable(name) for name in Settings.model_fields}
    for name in ("Hinted", "Webhook"):
        ours = {key for key in taking.functions[name].environment if key.startswith("LOWTIDE_")}
        assert ours | {"LOWTIDE_TIER"} == named
    resources = ("IntakeQueue", "CriticalQueue", "HighQueue", "NormalQueue", "LowQueue", "DeadLetterQueue", "Table")
    physical = {name: f"the {name}" for name in (*resources, "StrandedQueue", "Bucket", "ProviderSecret", "HintQueue")}
    physical["AWS::StackName"] = "lowtide"
    settings = Settings.from_environment(taking.environment("Webhook", physical))
    assert (settings.hints_url, settings.webhook_secret_arn) == ("the HintQueue", SECRET)


def test_hints_go_to_the_pollers_own_handler_item_by_item(taking):
    hinted, poller = taking.functions["Hinted"], taking.functions["Poller"]
    assert hinted.handler == poller.handler
    assert (hinted.timeout_s, hinted.memory_mb) == (poller.timeout_s, poller.memory_mb)
    assert hinted.sources == (
        QueueSource(queue="HintQueue", batch_size=10, window_s=0, max_concurrency=2, partial_failures=True),
    )
    assert taking.visibilities_s["HintQueue"] >= hinted.timeout_s


def test_a_lease_outlives_the_hinted_function_too(taking):
    routes = Routes.load((ROOT / "functions" / "lowtide" / "routes.toml").read_text(encoding="utf-8"))
    assert routes.batching.lease_s > taking.functions["Hinted"].timeout_s


def test_a_hint_waits_longer_than_the_schedule_does_and_no_day(taking, deployed):
    routes = Routes.load((ROOT / "functions" / "lowtide" / "routes.toml").read_text(encoding="utf-8"))
    kept_s = deployed["HintQueue"]["Properties"]["MessageRetentionPeriod"]
    assert routes.batching.poll_max_s < kept_s < timedelta(days=1).total_seconds()
    assert kept_s > taking.visibilities_s["HintQueue"], "a hint that failed is tried once more"


def test_the_url_is_public_and_what_is_behind_it_is_capped(deployed):
    assert deployed["WebhookUrl"]["Properties"]["AuthType"] == "NONE"
    webhook = deployed["Webhook"]["Properties"]
    assert webhook["ReservedConcurrentExecutions"] == {"Ref": "WebhookConcurrency"}
    # Since October 2025 a public URL needs both.
    granted = {p["Properties"]["Action"] for p in of_type(deployed, "AWS::Lambda::Permission").values()}
    assert granted == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    for permission in of_type(deployed, "AWS::Lambda::Permission").values():
        properties = permission["Properties"]
        assert properties["FunctionName"] == {"Ref": "WebhookAliaslive"}
        assert properties.get("FunctionUrlAuthType") == "NONE" or properties.get("InvokedViaFunctionUrl") is True


def test_whoever_breaks_in_at_the_url_can_drop_hints_and_nothing_else(deployed):
    granted = {s["Sid"]: (as_list(s["Action"]), s["Resource"]) for s in statements(deployed["WebhookRole"])}
    assert granted == {
        "PassOnHints": (["sqs:SendMessage"], {"Fn::GetAtt": ["HintQueue", "Arn"]}),
        "RememberWhatWasPassedOn": (
            ["dynamodb:BatchGetItem", "dynamodb:BatchWriteItem"],
            {"Fn::GetAtt": ["Table", "Arn"]},
        ),
        "ReadSigningKey": (["secretsmanager:GetSecretValue"], {"Ref": "WebhookSecretArn"}),
        "Log": (["logs:CreateLogStream", "logs:PutLogEvents"], {"Fn::GetAtt": ["WebhookLogs", "Arn"]}),
    }


def test_the_webhook_function_reaches_no_row_of_a_task_part_or_batch(deployed):
    [remember] = [s for s in statements(deployed["WebhookRole"]) if s["Sid"] == "RememberWhatWasPassedOn"]
    assert remember["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": [f"{PARTITIONS}*"]}}


def test_only_the_poller_takes_hints(deployed):
    takers = [
        name
        for name, role in of_type(deployed, "AWS::IAM::Role").items()
        if "HintQueue" in json.dumps(role) and "sqs:ReceiveMessage" in json.dumps(role)
    ]
    assert takers == ["PollerRole"]


def test_a_delivery_is_remembered_for_longer_than_it_could_be_played_again():
    assert timedelta(hours=72) + TOLERANCE < MEMORY
