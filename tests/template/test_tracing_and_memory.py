"""Tracing and memory: parameters that reach every function, and publish a version of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deployed_resources import of_type
from sam_transform import transformed_with

from lowtide_local.stack.intrinsics import Evaluator, read_yaml
from lowtide_local.stack.template import load

ROOT = Path(__file__).parents[2]
MEMORY = {
    "IngestMemory": {"Ingest", "Webhook"},
    "ConsumerMemory": {"ConsumerCritical", "ConsumerHigh", "ConsumerNormal"},
    "BatchMemory": {"Assembler", "Poller", "Hinted"},
    "ReporterMemory": {"Reporter"},
}
TRACED = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
SECRET = {"WebhookSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hook"}


@pytest.mark.parametrize(("given", "mode"), [({}, "PassThrough"), ({"Tracing": "Active"}, "Active")])
def test_every_function_is_traced_where_the_parameter_says_so(template, given, mode):
    document = transformed_with(template, given)
    evaluator = Evaluator(document, given)
    for function in of_type(document["Resources"], "AWS::Lambda::Function").values():
        assert evaluator.value(function["Properties"]["TracingConfig"]) == {"Mode": mode}


@pytest.mark.parametrize(("given", "allowed"), [({}, set()), ({"Tracing": "Active"}, TRACED)])
def test_every_role_of_a_function_may_send_traces_where_they_are_on_and_not_otherwise(template, given, allowed):
    document = transformed_with(template, given)
    evaluator = Evaluator(document, given | SECRET)
    functions = of_type(document["Resources"], "AWS::Lambda::Function").values()
    for role in {function["Properties"]["Role"]["Fn::GetAtt"][0] for function in functions}:
        [policy] = evaluator.value(document["Resources"][role]["Properties"]["Policies"])
        granted = set()
        for statement in policy["PolicyDocument"]["Statement"]:
            actions = statement["Action"]
            granted |= {a for a in ([actions] if isinstance(actions, str) else actions) if a.startswith("xray:")}
        assert granted == allowed, role


def test_no_function_has_a_memory_that_no_parameter_sets(deployed):
    functions = of_type(deployed, "AWS::Lambda::Function")
    by = {}
    for name, function in functions.items():
        by.setdefault(function["Properties"]["MemorySize"]["Ref"], set()).add(name)
    assert by == MEMORY


@pytest.mark.parametrize("parameter", MEMORY)
def test_a_memory_reaches_its_functions_and_no_other(parameter):
    before = load(ROOT / "template.yaml", SECRET).functions
    after = load(ROOT / "template.yaml", SECRET | {parameter: "3008"}).functions
    assert {name for name in before if before[name].memory_mb != after[name].memory_mb} == MEMORY[parameter]
    assert {after[name].memory_mb for name in MEMORY[parameter]} == {3008}


@pytest.mark.parametrize("parameter", [*MEMORY, "Tracing"])
def test_a_change_of_it_alone_publishes_versions_of_its_functions_and_of_no_other(deployed, parameter):
    versions = of_type(deployed, "AWS::Lambda::Version").values()
    published = {
        version["Properties"]["FunctionName"]["Ref"]
        for version in versions
        if f"${{{parameter}}}" in version["Properties"]["Description"]["Fn::Sub"]
    }
    assert published == MEMORY.get(parameter, set().union(*MEMORY.values()))


@pytest.mark.parametrize("metric", ["Errors", "Throttles", "Duration", "ConcurrentExecutions"])
def test_the_dashboard_has_this_figure_of_every_function(template, deployed, metric):
    nested = read_yaml(ROOT / "infra" / "dashboard.yaml")
    handed = template.document["Resources"]["Dashboard"]["Properties"]["Parameters"]
    evaluated = Evaluator(template.document, SECRET).value(dict(handed))
    given = {name: value.get("Ref", name) for name, value in evaluated.items()}
    evaluator = Evaluator(nested, given, {"AWS::Region": "eu-west-1"})
    body = json.loads(evaluator.value(nested["Resources"]["Dashboard"]["Properties"]["DashboardBody"]))
    lines = [line for shown in body["widgets"] for line in shown["properties"]["metrics"]]
    found = [line for line in lines if line[:2] == ["AWS/Lambda", metric]]
    assert {line[3] for line in found} == of_type(deployed, "AWS::Lambda::Function").keys()
    assert all(line[4]["label"] == line[3] for line in found)
