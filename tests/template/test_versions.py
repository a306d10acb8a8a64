"""Functions behind an alias: what invokes them, what publishes a version, and how a change goes back by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from deployed_resources import of_type

NOT_OF_A_VERSION = {"ReservedConcurrentExecutions", "Tags", "RecursiveLoop", "Role", "LoggingConfig"}
"""Properties that a version does not keep, or whose value no parameter decides."""
PSEUDO = "AWS::"


def refs(value: Any) -> Iterator[str]:
    """What a value refers to by Ref, Sub or condition."""
    match value:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::If": [str(condition), *rest]}:
            yield condition
            yield from refs(rest)
        case {"Fn::Sub": str(text)}:
            yield from re.findall(r"\$\{([A-Za-z0-9:]+)", text)
        case dict():
            for inner in value.values():
                yield from refs(inner)
        case list():
            for inner in value:
                yield from refs(inner)


def parameters_of(document, value) -> set[str]:
    """The parameters that a value depends on, through conditions too."""
    found: set[str] = set()
    for name in refs(value):
        if name in document["Parameters"]:
            found.add(name)
        elif name in document["Conditions"]:
            found |= parameters_of(document, document["Conditions"][name])
    return found


@pytest.fixture(params=["transformed", "staged"])
def resources(request) -> dict[str, Any]:
    return request.getfixturevalue(request.param)["Resources"]


def test_everything_that_invokes_a_function_invokes_its_alias(resources):
    aliases = set(of_type(resources, "AWS::Lambda::Alias"))
    functions = set(of_type(resources, "AWS::Lambda::Function"))
    assert {name.removesuffix("Aliaslive") for name in aliases} == functions
    invoked = [
        *(
            each["Properties"]["FunctionName"]
            for each in of_type(resources, "AWS::Lambda::EventSourceMapping").values()
        ),
        *(each["Properties"]["FunctionName"] for each in of_type(resources, "AWS::Lambda::Permission").values()),
        *(each["Properties"]["Target"]["Arn"] for each in of_type(resources, "AWS::Scheduler::Schedule").values()),
        *(each["Properties"]["TargetFunctionArn"] for each in of_type(resources, "AWS::Lambda::Url").values()),
    ]
    assert len(invoked) == 5 + 2 + 3 + 1
    assert {each["Ref"] for each in invoked} <= aliases


def test_a_schedule_may_invoke_its_alias_and_nothing_else(resources):
    for schedule in of_type(resources, "AWS::Scheduler::Schedule").values():
        role = resources[schedule["Properties"]["Target"]["RoleArn"]["Fn::GetAtt"][0]]["Properties"]
        granted = [s for policy in role["Policies"] for s in policy["PolicyDocument"]["Statement"]]
        invoke = [s["Resource"] for s in granted if s["Action"] == "lambda:InvokeFunction"]
        assert invoke == [schedule["Properties"]["Target"]["Arn"]]


def test_what_becomes_of_an_invocation_that_failed_is_settled_on_the_alias(resources):
    for config in of_type(resources, "AWS::Lambda::EventInvokeConfig").values():
        assert config["Properties"]["Qualifier"] == "live"


def test_a_parameter_that_a_function_sees_publishes_a_version_and_no_other_does(template, resources):
    """SAM publishes where the template's text changes. Lambda refuses to publish what has not changed."""
    document = template.document
    numbered = parameters_of(document, resources["Settings"]["Properties"]["Content"])
    versions = {v["Properties"]["FunctionName"]["Ref"]: v for v in of_type(resources, "AWS::Lambda::Version").values()}
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        seen = {key: value for key, value in function["Properties"].items() if key not in NOT_OF_A_VERSION}
        description = versions[name]["Properties"]["Description"]
        assert "Settings" in set(refs(description))
        assert parameters_of(document, seen) == numbered | parameters_of(document, description), name
        assert versions[name]["DeletionPolicy"] == "Retain", "the alias can be moved back to it"


def test_a_number_stands_for_the_values_that_the_environment_has(resources):
    [first, *_] = of_type(resources, "AWS::Lambda::Function").values()
    variables = first["Properties"]["Environment"]["Variables"].values()
    [_, values] = resources["Settings"]["Properties"]["Content"]["Fn::Join"]
    assert all(value in variables for value in values)


def test_at_once_there_is_no_codedeploy(transformed):
    assert not [r for r in transformed["Resources"].values() if r["Type"].startswith("AWS::CodeDeploy")]
    assert transformed["Parameters"]["TrafficShift"]["Default"] == "AllAtOnce"


def test_in_stages_every_function_shifts_and_goes_back_when_an_alarm_rings(staged):
    resources = staged["Resources"]
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        group = resources[f"{name}DeploymentGroup"]
        assert group.get("Condition") == function.get("Condition")
        properties = group["Properties"]
        assert properties["DeploymentConfigName"] == {"Fn::Sub": "CodeDeployDefault.LambdaCanary10Percent5Minutes"}
        assert "DEPLOYMENT_STOP_ON_ALARM" in properties["AutoRollbackConfiguration"]["Events"]
        [_, alarms, _] = properties["AlarmConfiguration"]["Fn::If"]
        assert [alarm["Name"] for alarm in alarms["Alarms"]] == [
            {"Fn::GetAtt": ["Alarms", "Outputs.CallErrors"]},
            {"Ref": "NewVersionFails"},
        ]
        policy = resources[f"{name}Aliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        assert policy["DeploymentGroupName"] == {"Ref": f"{name}DeploymentGroup"}


def test_every_way_to_shift_is_one_that_sam_knows_and_one_alone_is_at_once(template):
    allowed = template.document["Parameters"]["TrafficShift"]["AllowedValues"]
    staged = {name: entry["Staged"] for name, entry in template.document["Mappings"]["TrafficShifts"].items()}
    assert list(staged) == allowed
    assert [name for name, way in staged.items() if way == "false"] == ["AllAtOnce"]


def test_the_alarm_that_ends_a_deployment_watches_every_function_that_is_always_there(deployed):
    metrics = deployed["NewVersionFails"]["Properties"]["Metrics"]
    watched = {
        each["MetricStat"]["Metric"]["Dimensions"][0]["Value"]["Ref"] for each in metrics if "MetricStat" in each
    }
    assert watched == {n for n, f in of_type(deployed, "AWS::Lambda::Function").items() if "Condition" not in f}
    assert len(metrics) <= 10, "CloudWatch takes ten metrics in one alarm"


def test_a_deployment_bears_its_stack_s_name_unless_it_is_given_one(template, deployed):
    name = {"Fn::If": ["BearsItsStacksName", {"Ref": "AWS::StackName"}, {"Ref": "Deployment"}]}
    assert template.document["Parameters"]["Deployment"]["Default"] == ""
    assert deployed["Ingest"]["Properties"]["Environment"]["Variables"]["LOWTIDE_DEPLOYMENT"] == name
    assert template.document["Outputs"]["Deployment"]["Value"] == name
    for nested in ("Alarms", "Dashboard"):
        assert deployed[nested]["Properties"]["Parameters"]["Deployment"] == name
    assert "Deployment" not in set(refs(deployed)) - {"Deployment"}
