"""lowtide_local.stack.template: the deployed template, read for moto."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from lowtide_local.stack.intrinsics import Evaluator, read_yaml
from lowtide_local.stack.template import QueueSource, load, transform

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key-AbCdEf"


@pytest.fixture
def cloudformation(monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        yield boto3.client("cloudformation")


def test_moto_creates_the_data_plane_and_its_outputs_lead_there(cloudformation):
    template = load(TEMPLATE, {"ProviderSecretArn": SECRET})
    cloudformation.create_stack(StackName="tide", TemplateBody=json.dumps(transform(template)))

    [stack] = cloudformation.describe_stacks(StackName="tide")["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    boto3.client("sqs").send_message(QueueUrl=outputs["IntakeQueueUrl"], MessageBody="hello")
    boto3.client("s3").put_object(Bucket=outputs["BucketName"], Key="parts/p", Body=b"")
    described = boto3.client("dynamodb").describe_table(TableName=outputs["TableName"])["Table"]
    assert [index["IndexName"] for index in described["GlobalSecondaryIndexes"]] == ["active", "dead", "settled"]
    redrive = boto3.client("sqs").get_queue_attributes(
        QueueUrl=outputs["LowQueueUrl"], AttributeNames=["RedrivePolicy", "VisibilityTimeout"]
    )["Attributes"]
    assert json.loads(redrive["RedrivePolicy"])["deadLetterTargetArn"] == outputs["StrandedQueueArn"]
    assert redrive["VisibilityTimeout"] == "660"


def test_a_functions_environment_is_filled_in_with_what_was_created(cloudformation):
    template = load(TEMPLATE, {"ProviderSecretArn": SECRET, "Deployment": "spring"})
    cloudformation.create_stack(StackName="tide", TemplateBody=json.dumps(transform(template)))
    created = cloudformation.describe_stack_resources(StackName="tide")["StackResources"]
    physical = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in created}

    environment = template.environment("ConsumerNormal", physical)

    assert environment["LOWTIDE_SECRET_ARN"] == SECRET
    assert environment["LOWTIDE_DEPLOYMENT"] == "spring"
    assert environment["LOWTIDE_TIER"] == "NORMAL"
    assert environment["LOWTIDE_NORMAL_URL"].startswith(
        "https://sqs.eu-west-1.amazonaws.com/123456789012/tide-NormalQueue"
    )
    assert environment["LOWTIDE_ROUTES_PARAMETER"] == ""


def test_what_only_a_deployment_knows_stays_symbolic_and_is_missed_by_name():
    template = load(TEMPLATE)
    assert template.functions["Poller"].environment["LOWTIDE_TABLE"] == {"Ref": "Table"}
    with pytest.raises(KeyError, match="LOWTIDE_TABLE"):
        template.environment("Poller", {})


def test_event_sources_and_schedules_follow_the_parameters():
    template = load(TEMPLATE, {"HighConcurrency": "50", "AssemblerSchedule": "rate(1 minute)"})
    assert template.functions["ConsumerHigh"].sources == (
        QueueSource(queue="HighQueue", batch_size=5, window_s=0, max_concurrency=50, partial_failures=True),
    )
    assert template.functions["Assembler"].schedules_s == (60,)


def test_a_parameter_that_the_template_lacks_is_refused():
    with pytest.raises(KeyError, match="HighConcurency"):
        load(TEMPLATE, {"HighConcurency": "50"})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("!GetAtt Queue.Arn", {"Fn::GetAtt": ["Queue", "Arn"]}),
        ("!If [Big, !Ref Name, none]", "tide"),
        ("!If [Small, 1, !Ref AWS::NoValue]", {"Ref": "AWS::NoValue"}),
        ("[1, !If [Small, 2, !Ref AWS::NoValue]]", [1]),
        ("!Join ['-', [!Ref Name, x]]", "tide-x"),
        ("!Join ['-', [!Ref Name, !Ref Queue]]", {"Fn::Join": ["-", ["tide", {"Ref": "Queue"}]]}),
        ("!Sub '${Name}/${Queue.Arn}'", {"Fn::Sub": "tide/${Queue.Arn}"}),
        ("!Sub '${Name}'", "tide"),
        ("!Ref Names", ["a", "b"]),
        ("!Select [0, !Ref Names]", {"Fn::Select": [0, ["a", "b"]]}),
    ],
)
def test_cloudformations_functions_are_evaluated_as_far_as_parameters_go(tmp_path, written, meant):
    path = tmp_path / "template.yaml"
    path.write_text(
        f"""
Parameters:
  Name: {{Type: String, Default: tide}}
  Names: {{Type: CommaDelimitedList, Default: "a,b"}}
Conditions:
  Big: !And [!Equals [!Ref Name, tide], !Not [!Condition Small]]
  Small: !Or [!Equals [!Ref Name, ""], !Equals [!Join ["", !Ref Names], ""]]
Value: {written}
"""
    )
    document = read_yaml(path)
    assert Evaluator(document, {}).value(document["Value"]) == meant


def test_a_condition_on_what_only_a_deployment_knows_is_an_error():
    document = {"Conditions": {"Odd": {"Fn::Contains": [["eu"], {"Ref": "AWS::Region"}]}}}
    with pytest.raises(ValueError, match="Odd cannot be told"):
        Evaluator(document, {}).condition("Odd")
