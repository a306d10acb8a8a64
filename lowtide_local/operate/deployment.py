"""Where a deployment is: by its stack's outputs, or by the environment that template.yaml sets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

from lowtide.settings import Settings, variable
from lowtide_local.cli.stop import Stop, usage

TRYING_S = 5.0
"""How long a refused connection is tried again before the command fails."""
BETWEEN_TRIES_S = 0.25

OUTPUTS = {
    "deployment": "Deployment",
    "table": "TableName",
    "bucket": "BucketName",
    "intake_url": "IntakeQueueUrl",
    "critical_url": "CriticalQueueUrl",
    "high_url": "HighQueueUrl",
    "normal_url": "NormalQueueUrl",
    "low_url": "LowQueueUrl",
    "dead_letter_url": "DeadLetterQueueUrl",
    "stranded_url": "StrandedQueueUrl",
    "routes_parameter": "RoutesParameter",
    "event_bus": "EventBusArn",
    "state_machine_arns": "WokenStateMachines",
}
"""The stack's output for each field of the settings that an operator needs."""


def find(stack: str | None, cloudformation: Callable[[], Any], environment: Mapping[str, str] = os.environ) -> Settings:
    """``cloudformation`` makes a boto3 client. Raises Stop where there is no such stack, or where none is named and the
    environment does not say either."""
    if stack is None:
        if variable("table") not in environment:
            raise usage("which deployment? give --stack NAME or set LOWTIDE_STACK to the name of its stack")
        return Settings.from_environment(environment)
    outputs = _outputs(cloudformation(), stack)
    given = {field: outputs[name] for field, name in OUTPUTS.items() if outputs.get(name)}
    missing = [
        OUTPUTS[name] for name, field in Settings.model_fields.items() if field.is_required() and name not in given
    ]
    if missing:
        raise Stop(f"stack {stack} is no deployment of lowtide: it has no output {', '.join(missing)}")
    return Settings.model_validate(given)


def _outputs(cloudformation: Any, stack: str) -> dict[str, str]:
    give_up = time.monotonic() + TRYING_S
    while True:
        try:
            [described] = cloudformation.describe_stacks(StackName=stack)["Stacks"]
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            if time.monotonic() + BETWEEN_TRIES_S >= give_up:
                raise Stop(f"{error} (tried for {TRYING_S:.0f} s)") from None
            time.sleep(BETWEEN_TRIES_S)
        except ClientError as error:
            if "does not exist" in error.response["Error"]["Message"]:
                region = cloudformation.meta.region_name
                raise Stop(f"there is no stack {stack} in {region}; look at its name and at AWS_REGION") from None
            raise
        else:
            return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}
