"""The template's policies in force: a call that the caller's role does not allow is refused as AWS refuses it.

moto allows everything. Here each call that a function makes, and each that an event source makes for it, is judged by
the statements of the function's role, and remembered: which grant was used, and what was refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

from botocore.client import BaseClient
from botocore.exceptions import ClientError

from .authorization import LISTING, Need, bucket_arn, needs, queue_arn, table_arn
from .delivery import ACCOUNT
from .intrinsics import Evaluator
from .template import Template

_FORBIDDEN: Any = {"HTTPStatusCode": 403}


@dataclass(frozen=True, slots=True)
class Grant:
    """One action on one resource (a pattern), of one statement of a policy."""

    role: str
    sid: str
    action: str
    resource: str
    partition_keys: tuple[str, ...] | None = None
    """Patterns that the rows' partition keys have to match. None: any."""

    def allows(self, need: Need) -> bool:
        if need.action != self.action:
            return False
        if need.resource is not None and not _matches(self.resource, need.resource):
            return False
        if self.partition_keys is None:
            return True
        return all(any(_matches(each, key) for each in self.partition_keys) for key in need.partition_keys)

    def __str__(self) -> str:
        return f"{self.role} {self.sid}: {self.action} on {self.resource}"


@dataclass(frozen=True, slots=True)
class Call:
    caller: str
    need: Need

    def __str__(self) -> str:
        return f"{self.caller}, {self.need.action} on {self.need.resource}"


def grants(role: str, policy: Mapping[str, Any], evaluator: Evaluator) -> list[Grant]:
    """What a policy's document allows. Raises ValueError for what this module cannot judge: a statement that denies,
    and a condition other than ForAllValues:StringLike on dynamodb:LeadingKeys."""
    return [grant for statement in evaluator.value(policy)["Statement"] for grant in _granted(role, statement)]


def grants_of(resources: Mapping[str, Any], evaluator: Evaluator) -> dict[str, list[Grant]]:
    """The grants by the logical id of each role, and of each managed policy."""
    found: dict[str, list[Grant]] = {}
    for name, resource in resources.items():
        if "Condition" in resource and not evaluator.condition(resource["Condition"]):
            continue
        match resource["Type"]:
            case "AWS::IAM::Role":
                policies = [each["PolicyDocument"] for each in resource["Properties"].get("Policies", [])]
            case "AWS::IAM::ManagedPolicy":
                policies = [resource["Properties"]["PolicyDocument"]]
            case _:
                continue
        found[name] = [grant for policy in policies for grant in grants(name, policy, evaluator)]
    return found


class Roles:
    """``callers`` are the grants of each caller by its name. Outside ``acting`` everything is allowed: the tests' and
    the stack's own calls."""

    def __init__(self, callers: Mapping[str, Sequence[Grant]]) -> None:
        self.callers = dict(callers)
        self.calls: set[Call] = set()
        self.refused: list[Call] = []
        self._caller: str | None = None

    @contextmanager
    def acting(self, caller: str | None) -> Iterator[None]:
        """Within it, every call of this process is the caller's: one function runs at a time. None: all is allowed."""
        before, self._caller = self._caller, caller
        try:
            yield
        finally:
            self._caller = before

    @contextmanager
    def in_force(self) -> Iterator[None]:
        make_call = BaseClient._make_api_call  # type: ignore[attr-defined]  # noqa: SLF001

        def judged(client: Any, operation: str, request: dict[str, Any]) -> Any:
            caller = self._caller
            if caller is None:
                return make_call(client, operation, request)
            service = client.meta.service_model.service_name
            for need in needs(service, operation, request, client.meta.region_name):
                self._judge(Call(caller, need), operation)
            try:
                return make_call(client, operation, request)
            except ClientError as error:
                if error.response["Error"]["Code"] in {"NoSuchKey", "404"}:
                    self._judge(Call(caller, Need(LISTING, bucket_arn(request["Bucket"]))), operation)
                raise

        with patch.object(BaseClient, "_make_api_call", judged):
            yield

    def _judge(self, call: Call, operation: str) -> None:
        self.calls.add(call)
        if not any(grant.allows(call.need) for grant in self.callers.get(call.caller, ())):
            self.refused.append(call)
            fault: Any = {"Code": "AccessDenied", "Message": f"no identity-based policy allows it: {call}"}
            raise ClientError({"Error": fault, "ResponseMetadata": _FORBIDDEN}, operation)


def roles_in(template: Template, physical: Mapping[str, str], region: str) -> Roles:
    """In force under their functions' names, and beside them the template's managed policies under their own."""
    evaluator = evaluator_of(template.document, template.parameters, physical, region)
    granted = grants_of(template.document["Resources"], evaluator)
    functions = {name: granted.get(function.role, []) for name, function in template.functions.items()}
    return Roles(granted | functions)


def evaluator_of(
    document: Mapping[str, Any], parameters: Mapping[str, str], physical: Mapping[str, str], region: str
) -> Evaluator:
    """An evaluator that knows the ARNs of what policies name. ``physical`` is what Ref gives, by logical id."""
    known = {"AWS::Partition": "aws", "AWS::Region": region, "AWS::AccountId": ACCOUNT, **physical}
    for name, reference in physical.items():
        match document["Resources"].get(name, {}).get("Type"):
            case "AWS::SQS::Queue":
                known[f"{name}.Arn"] = queue_arn(reference, region)
            case "AWS::DynamoDB::Table":
                known[f"{name}.Arn"] = table_arn(reference, region)
            case "AWS::S3::Bucket":
                known[f"{name}.Arn"] = bucket_arn(reference)
            case "AWS::Lambda::Function":
                known[f"{name}.Arn"] = f"arn:aws:lambda:{region}:{ACCOUNT}:function:{reference}"
            case "AWS::Logs::LogGroup":
                known[f"{name}.Arn"] = f"arn:aws:logs:{region}:{ACCOUNT}:log-group:{reference}:*"
            case _:
                pass
    return Evaluator(document, parameters, known)


def _granted(role: str, statement: Mapping[str, Any]) -> Iterator[Grant]:
    if statement["Effect"] != "Allow":
        raise ValueError(f"{role}: a statement that does not allow: {statement['Sid']}")
    keys = _partition_keys(role, statement)
    for action in _as_list(statement["Action"]):
        for resource in _as_list(statement["Resource"]):
            # What only a deployment knows, as a log group: no client of ours names it.
            pattern = resource if isinstance(resource, str) else f"unresolved {resource}"
            yield Grant(role, statement.get("Sid", ""), action, pattern, keys)


def _partition_keys(role: str, statement: Mapping[str, Any]) -> tuple[str, ...] | None:
    match statement.get("Condition"):
        case None:
            return None
        case {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(patterns)}, **rest} if not rest:
            return tuple(patterns)
        case other:
            raise ValueError(f"{role}: cannot judge the condition of {statement['Sid']}: {other}")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _matches(pattern: str, text: str) -> bool:
    """IAM's wildcards, ``*`` and ``?``; the rest to the letter."""
    return _compiled(pattern).fullmatch(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    wildcards = {"*": ".*", "?": "."}
    return re.compile("".join(wildcards.get(char, re.escape(char)) for char in pattern), re.DOTALL)
