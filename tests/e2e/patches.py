"""What MiniStack 1.5.33 lacks, taken out of the transformed templates or written out before they are deployed to it.

Each entry has its reason, and says how many places it changed. One that changes none is an error: MiniStack has learned
it, or the template has lost it, and the entry goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowtide_local.stack.intrinsics import Evaluator

Document = dict[str, Any]
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
    for scaling in scalings:
        scaling["MaximumConcurrency"] = int(evaluator.value(scaling["MaximumConcurrency"]))
    return len(scalings)


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
        "packages in the functions' zip",
        "it unpacks the zip for every process that it starts; 8,000 files of boto3 and others take it a minute",
        _packages_beside_the_code,
    ),
    Patch(ALARMS, "alarms on metric math", "it refuses Properties.Metrics", _math_alarms),
    Patch(ALARMS, "composite alarms", "it has no AWS::CloudWatch::CompositeAlarm", _composite_alarms),
)
