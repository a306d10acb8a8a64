"""The transform that AWS makes of a SAM template before CloudFormation deploys it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import samtranslator.translator.transform as sam

from lowtide_local.stack.template import Template


def transformed_with(template: Template, parameters: dict[str, str]) -> dict[str, Any]:
    """The document that CloudFormation gets of it; ``parameters`` are those that are not left at their defaults."""

    class NoManagedPolicies:
        def load(self) -> dict[str, str]:
            return {}

    document = deepcopy(dict(template.document))  # the transform writes into what it is given
    # `sam package` uploads what is local; the transform that runs in AWS sees buckets.
    resources = {
        name: _uploaded(resource) if resource["Type"] == "AWS::Serverless::Application" else resource
        for name, resource in document["Resources"].items()
    }
    document["Resources"] = resources
    document["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        return sam.transform(document, parameters, NoManagedPolicies())


def _uploaded(application: dict[str, Any]) -> dict[str, Any]:
    return application | {"Properties": application["Properties"] | {"Location": "https://s3.amazonaws.com/bucket/key"}}
