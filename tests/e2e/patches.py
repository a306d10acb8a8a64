"""What MiniStack 1.5.33 lacks, taken out of the transformed templates or written out before they are deployed to it.

Each entry has its reason, and says how many places it changed. One that changes none is an error: MiniStack has learned
it, or the template has lost it, and the entry goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowtide_local.stack.intrinsics import Evaluator

Document = dict[str, Any]
BATCHES = {"sqs:SendMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"}
MAIN, ALARMS = "template.yaml", "infra/alarms.yaml"


@dataclass(frozen=True, slots=True)
class Given:
    """What a template is deployed with: its parameters, and where the functions' packages are installed."""

    parameters: Mapping[str, str]
    packages: Path


@dataclass(frozen=True, slots=True)
class Patch:
    """``apply`` changes the document in place and returns how many places it changed."""

    template: str
    what: str
    reason: str
    apply: Callable[[Document, Given], int]


class ChangesNothing(Exception):
    """An entry of the list found nothing to change."""


def patch(template: str, document: Document, given: Given) -> None:
    """Raises ChangesNothing."""
    for each in PATCHES:
        if each.template == template and not each.apply(document, given):
            raise ChangesNothing(f"{each.what}: nothing in {template} to change; take the entry out of {__name__}")


def _joins_in_conditions(document: Document, given: Given) -> int:
    """Replaces ``Fn::Join`` inside conditions by the text that it gives."""
    evaluator = Evaluator(document, given.parameters)
    joins = 0

    def written_out(value: Any) -> Any:
        nonlocal joins
        match value:
            case {"Fn::Join": _}:
                joins += 1
                return evaluator.value(value)
            case dict():
                return {name: written_out(inner) for name, inner in value.items()}
            case list():
                return [written_out(inner) for inner in value]
            case _:
                return value

    document["Conditions"] = written_out(document["Conditions"])
    return joins


def _texts_for_numbers(document: Document, given: Given) -> int:
    """Writes the number in place of a reference to a parameter that is one."""
    evaluator = Evaluator(document, given.parameters)
    scalings = [
        resource["Properties"]["ScalingConfig"]
        for resource in document["Resources"].values()
        if resource["Type"] == "AWS::Lambda::EventSourceMapping"
    ]
    references = [scaling for scaling in scalings if not isinstance(scaling["MaximumConcurrency"], int)]
    for scaling in references:
        scaling["MaximumConcurrency"] = int(evaluator.value(scaling["MaximumConcurrency"]))
    return len(references)


def _arn_of_secret(document: Document, _: Given) -> int:
    return _replace(document, {"Ref": "ProviderSecret"}, {"Fn::GetAtt": ["ProviderSecret", "Id"]})


def _stack_by_name(document: Document, _: Given) -> int:
    by_name = "arn:${AWS::Partition}:cloudformation:${AWS::Region}:${AWS::AccountId}:stack/${AWS::StackName}/*"
    return _replace(document["Resources"]["OperatorPolicy"], {"Ref": "AWS::StackId"}, {"Fn::Sub": by_name})


def _replace(document: Document, old: Document, new: Document) -> int:
    text = json.dumps(document)
    document.update(json.loads(text.replace(json.dumps(old), json.dumps(new))))
    return text.count(json.dumps(old))


def _tls_only(document: Document, _: Given) -> int:
    found = 0
    for name, resource in list(document["Resources"].items()):
        if resource["Type"] in {"AWS::SQS::QueuePolicy", "AWS::S3::BucketPolicy"}:
            policy = resource["Properties"]["PolicyDocument"]
            kept = [each for each in policy["Statement"] if each.get("Sid") != "TlsOnly"]
            found += len(policy["Statement"]) - len(kept)
            policy["Statement"] = kept
            if not any("Sid" in each for each in kept):
                del document["Resources"][name]
    return found


def _batch_actions(document: Document, _: Given) -> int:
    found = 0
    for resource in document["Resources"].values():
        for statement in _statements(resource):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            batches = [f"{action}Batch" for action in actions if action in BATCHES]
            statement["Action"] = [*actions, *batches]
            found += len(batches)
    return found


def _statements(resource: Document) -> Iterator[Document]:
    """Statements of a role's or a managed policy; those that depend on a condition are inside an ``Fn::If``."""
    properties = resource.get("Properties", {})
    documents = [each["PolicyDocument"] for each in properties.get("Policies", [])]
    if resource["Type"] == "AWS::IAM::ManagedPolicy":
        documents.append(properties["PolicyDocument"])
    for document in documents:
        for statement in document["Statement"]:
            yield from (each for each in statement.get("Fn::If", [statement]) if "Action" in each)


def _packages_beside_the_code(document: Document, given: Given) -> int:
    functions = [each for each in document["Resources"].values() if each["Type"] == "AWS::Lambda::Function"]
    for function in functions:
        function["Properties"]["Environment"]["Variables"]["PYTHONPATH"] = str(given.packages)
    return len(functions)


def _math_alarms(document: Document, _: Given) -> int:
    return _without(document, lambda resource: "Metrics" in resource.get("Properties", {}))


def _composite_alarms(document: Document, _: Given) -> int:
    return _without(document, lambda resource: resource["Type"] == "AWS::CloudWatch::CompositeAlarm")


def _without(document: Document, lacking: Callable[[Document], bool]) -> int:
    """Deletes those resources, then whatever names one of them. Returns how many were ``lacking``."""
    resources, outputs = document["Resources"], document.get("Outputs", {})
    gone = {name for name, resource in resources.items() if lacking(resource)}
    found, before = len(gone), 0
    while len(gone) > before:
        before = len(gone)
        gone |= {name for name, resource in resources.items() if _names(resource, gone)}
    for name in gone:
        del resources[name]
    for name in [name for name, output in outputs.items() if _names(output, gone)]:
        del outputs[name]
    return found


def _names(value: Any, gone: set[str]) -> bool:
    text = json.dumps(value)
    return any(f'"{name}"' in text or f"${{{name}" in text for name in gone)


PATCHES = (
    Patch(
        MAIN,
        "Fn::Join in conditions",
        "its conditions know Equals, And, Or, Not and Select; any other function counts as true",
        _joins_in_conditions,
    ),
    Patch(
        MAIN,
        "MaximumConcurrency by reference",
        "Ref gives the text of a Number parameter, and its SQS poller compares text with a number and stops",
        _texts_for_numbers,
    ),
    Patch(
        MAIN,
        "Ref of the provider's secret",
        "Ref gives a secret's name in place of its ARN, which is what the roles may read",
        _arn_of_secret,
    ),
    Patch(
        MAIN,
        "the operator's stack by its ID",
        "DescribeStacks asks for stack/NAME/*, where AWS asks for the ID of the stack that it has found",
        _stack_by_name,
    ),
    Patch(
        MAIN,
        "SQS actions in batches",
        "it asks for sqs:SendMessageBatch and its like, which IAM does not have: sqs:SendMessage covers both",
        _batch_actions,
    ),
    Patch(MAIN, "policies that refuse HTTP", "it is spoken to over HTTP here", _tls_only),
    Patch(
        MAIN,
        "packages in the functions' zip",
        "it unpacks the zip for every process that it starts; 8,000 files of boto3 and others take it a minute",
        _packages_beside_the_code,
    ),
    Patch(ALARMS, "alarms on metric math", "it refuses Properties.Metrics", _math_alarms),
    Patch(ALARMS, "composite alarms", "it has no AWS::CloudWatch::CompositeAlarm", _composite_alarms),
)
