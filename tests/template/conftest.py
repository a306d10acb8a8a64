from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sam_transform import transformed_with

from lowtide_local.stack.intrinsics import read_yaml
from lowtide_local.stack.template import Template, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def template() -> Template:
    return load(ROOT / "template.yaml")


@pytest.fixture(scope="session")
def with_webhooks() -> Template:
    return load(
        ROOT / "template.yaml", {"WebhookSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hook"}
    )


@pytest.fixture(scope="session")
def alarms() -> dict[str, Any]:
    """The resources of infra/alarms.yaml that are alarms on metrics."""
    resources = read_yaml(ROOT / "infra" / "alarms.yaml")["Resources"]
    return {name: resource for name, resource in resources.items() if resource["Type"] == "AWS::CloudWatch::Alarm"}


@pytest.fixture(scope="session")
def transformed(template: Template) -> dict[str, Any]:
    """The whole template as SAM hands it to CloudFormation."""
    return transformed_with(template, {})


@pytest.fixture(scope="session")
def staged(template: Template) -> dict[str, Any]:
    """The same, where changes reach the functions in stages."""
    return transformed_with(template, {"TrafficShift": "Canary10Percent5Minutes"})


@pytest.fixture(scope="session")
def deployed(transformed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The transformed template's resources, by logical id."""
    return transformed["Resources"]
