"""template.yaml as SAM hands it to CloudFormation, without AWS: SAM's own translator, run here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pytest
import samtranslator.translator.transform as sam

from lowtide_local.stack.template import Template

REGION = "eu-west-1"


class _NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


def transformed(
    document: Mapping[str, Any],
    parameters: Mapping[str, str],
    *,
    code: str = "s3://bucket/key",
    uploaded: Callable[[str], str] = lambda _: "https://s3.amazonaws.com/bucket/key",
) -> dict[str, Any]:
    """``code`` and ``uploaded`` stand for what `sam package` does: the URL of the functions' zip, and the URL of each
    nested template by its path."""
    own = deepcopy(dict(document))  # the translator writes into what it is given
    for resource in own["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Application":
            resource["Properties"]["Location"] = uploaded(resource["Properties"]["Location"])
    own["Globals"]["Function"]["CodeUri"] = code
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", REGION)
        return sam.transform(own, dict(parameters), _NoManagedPolicies())


def transformed_with(template: Template, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The document that CloudFormation gets of it; ``parameters`` are those that are not left at their defaults."""
    return transformed(template.document, parameters)
