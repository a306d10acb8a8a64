"""template.yaml as values: what wires the handlers to their queues and schedules, and what moto can create.

``load`` gives each function's handler, limits, environment and events; ``transform`` the queues, the table and the
bucket as plain CloudFormation. Both are read from the template that is deployed, so there is no second truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .intrinsics import Evaluator, read_yaml

DATA_PLANE = frozenset({"AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::S3::Bucket"})
"""What ``transform`` keeps: all that moto's CloudFormation creates of ours."""

_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_UNIT_S = {"minute": 60, "hour": 3600, "day": 86_400}
_LAMBDA_TIMEOUT_S = 3
_LAMBDA_MEMORY_MB = 128
_SQS_VISIBILITY_S = 30


@dataclass(frozen=True, slots=True)
class QueueSource:
    """An event source mapping. ``queue`` is the queue's logical id, ``window_s`` how long it may wait to fill up."""

    queue: str
    batch_size: int
    window_s: int
    max_concurrency: int | None
    partial_failures: bool
    """Whether the function may report items that failed (ReportBatchItemFailures)."""


@dataclass(frozen=True, slots=True)
class Function:
    """``environment`` keeps ``{"Ref": …}`` for what only a deployment knows; ``Template.environment`` fills it in."""

    name: str
    handler: str
    timeout_s: int
    memory_mb: int
    environment: Mapping[str, Any]
    sources: tuple[QueueSource, ...]
    schedules_s: tuple[int, ...]
    """Seconds between runs, one entry per schedule."""
    role: str = ""
    """The logical id of its role; empty where the template leaves it to SAM."""


@dataclass(frozen=True, slots=True)
class Template:
    """``functions`` and ``visibilities_s`` (of queues) are by logical id, in the template's order."""

    document: Mapping[str, Any]
    parameters: Mapping[str, str]
    functions: Mapping[str, Function]
    visibilities_s: Mapping[str, int]

    def environment(self, function: str, physical: Mapping[str, str]) -> dict[str, str]:
        """A function's variables; ``physical`` is what ``Ref`` gives by logical id (a queue's URL, a table's name).

        Raises KeyError where a variable needs a resource that ``physical`` lacks.
        """
        evaluator = Evaluator(self.document, self.parameters, physical)
        filled = {name: evaluator.value(value) for name, value in self.functions[function].environment.items()}
        if open_ends := sorted(name for name, value in filled.items() if not isinstance(value, str)):
            raise KeyError(f"{function}: no value for {', '.join(open_ends)}")
        return filled


def load(path: Path, parameters: Mapping[str, str] | None = None) -> Template:
    """The template at ``path`` under ``parameters`` (others have their defaults)."""
    document = read_yaml(path)
    given = dict(parameters or {})
    evaluator = Evaluator(document, given)
    shared = document.get("Globals", {}).get("Function", {})
    functions = {
        name: _function(name, resource["Properties"], shared, evaluator)
        for name, resource in document["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function" and _there(resource, evaluator)
    }
    visibilities = {
        name: int(resource.get("Properties", {}).get("VisibilityTimeout", _SQS_VISIBILITY_S))
        for name, resource in document["Resources"].items()
        if resource["Type"] == "AWS::SQS::Queue"
    }
    return Template(document, given, functions, visibilities)


def transform(template: Template) -> dict[str, Any]:
    """The data plane as plain CloudFormation: no parameters, no conditions, and the outputs that speak of it alone."""
    evaluator = Evaluator(template.document, template.parameters)
    resources = {
        name: resource
        for name, resource in template.document["Resources"].items()
        if resource["Type"] in DATA_PLANE and _there(resource, evaluator)
    }
    outputs = evaluator.value(template.document.get("Outputs", {}))
    return {
        "AWSTemplateFormatVersion": template.document["AWSTemplateFormatVersion"],
        "Resources": {name: _unconditional(resource) for name, resource in evaluator.value(resources).items()},
        "Outputs": {
            name: _unconditional(output)
            for name, output in outputs.items()
            if _refers(output["Value"]) <= resources.keys()
        },
    }


def _there(resource: Mapping[str, Any], evaluator: Evaluator) -> bool:
    return "Condition" not in resource or evaluator.condition(resource["Condition"])


def _unconditional(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "Condition"}


def _function(name: str, own: Mapping[str, Any], shared: Mapping[str, Any], evaluator: Evaluator) -> Function:
    variables: dict[str, Any] = {}
    for level in (shared, own):
        variables |= level.get("Environment", {}).get("Variables", {})
    events = [evaluator.value(event) for event in own.get("Events", {}).values()]
    return Function(
        name=name,
        handler=own["Handler"],
        timeout_s=int(own.get("Timeout", shared.get("Timeout", _LAMBDA_TIMEOUT_S))),
        memory_mb=int(evaluator.value(own.get("MemorySize", shared.get("MemorySize", _LAMBDA_MEMORY_MB)))),
        environment=evaluator.value(variables),
        sources=tuple(_source(event["Properties"]) for event in events if event["Type"] == "SQS"),
        schedules_s=tuple(
            _rate_s(event["Properties"]["ScheduleExpression"]) for event in events if event["Type"] == "ScheduleV2"
        ),
        role=own["Role"]["Fn::GetAtt"][0] if "Role" in own else "",
    )


def _source(properties: Mapping[str, Any]) -> QueueSource:
    concurrency = properties.get("ScalingConfig", {}).get("MaximumConcurrency")
    return QueueSource(
        queue=properties["Queue"]["Fn::GetAtt"][0],
        batch_size=int(properties.get("BatchSize", 10)),
        window_s=int(properties.get("MaximumBatchingWindowInSeconds", 0)),
        max_concurrency=None if concurrency is None else int(concurrency),
        partial_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
    )


def _rate_s(expression: str) -> int:
    found = _RATE.fullmatch(expression)
    if found is None:
        raise ValueError(f"{expression!r} is no rate: write rate(5 minutes)")
    return int(found[1]) * _UNIT_S[found[2]]


def _refers(value: Any) -> set[str]:
    """The logical ids that an evaluated value speaks of; pseudo parameters are everybody's."""
    return {name for name in _names(value) if not name.startswith("AWS::")}


def _names(value: Any) -> Iterator[str]:
    match value:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::GetAtt": [str(name), _]}:
            yield name
        case {"Fn::Sub": str(text)}:
            yield from (found.split(".")[0] for found in re.findall(r"\$\{([A-Za-z0-9:.]+)\}", text))
        case dict():
            for inner in value.values():
                yield from _names(inner)
        case list():
            for inner in value:
                yield from _names(inner)
        case _:
            pass
