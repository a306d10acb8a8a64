"""The stack on the emulator, the provider that it buys from, and the command that operates it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx2

from .emulator import Emulator
from .package import packaged
from .patches import Given
from .processes import STARTING_S, free_port, running, wait_until
from .workload import STUCK_MODEL

STACK = "e2e"
LOWTIDE = Path(sys.executable).with_name("lowtide")
ROUTES = "[batching]\nmax_wait_s = 1\n[retries]\nbatch_base_s = 1\n"
"""LOW waits for no company, and what failed in a batch goes into the next one."""
ROUTES_PARAMETER = "/lowtide/e2e"
SCHEDULE = "rate(1 minute)"
"""The shortest that the template takes, and EventBridge too."""
DEPLOYING_S = 60.0
COMMAND_S = 30.0

WEATHER = """
seed = 10
api_key = "{key}"
strict_models = true
[latency]
default = {{ min_s = 1.5, max_s = 2.5 }} # long enough to be killed in
flex = {{ min_s = 0.2, max_s = 0.5 }}
[batch]
min_s = 2
max_s = 3
cancel_s = 1
list_lag_s = 1
shuffled = true
[[batch.mishaps]]
kind = "never_ends"
model = "{stuck}"
[webhook]
url = "{webhook}"
secret = "{signing}"
twice = true
"""


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Deployment:
    """``operator`` is the environment of an operator, who has the keys of a user with the stack's policy alone."""

    outputs: Mapping[str, str]
    provider_url: str
    operator: Mapping[str, str]

    def lowtide(self, *arguments: str) -> Ended:
        """The command against the stack, as the operator gives it."""
        ended = subprocess.run(
            [LOWTIDE, *arguments, "--stack", STACK],
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            stdin=subprocess.DEVNULL,
            env=dict(self.operator),
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def provider(self, what: str) -> Any:
        """``billing`` or ``state`` of the simulated provider."""
        return httpx2.get(f"{self.provider_url}/simulator/{what}", timeout=10).raise_for_status().json()

    def depths(self) -> dict[str, int]:
        """Messages on each queue, in hand or not, by the queue's name in the template."""
        client = boto3.client("sqs")
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        depths = {}
        for output, url in self.outputs.items():
            if output.endswith("QueueUrl"):
                found = client.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))["Attributes"]
                depths[output.removesuffix("Url")] = sum(int(found[name]) for name in names)
        return depths


@contextmanager
def deployed(emulator: Emulator, packages: Path, scratch: Path) -> Iterator[Deployment]:
    """Deploys, then starts the provider, which has to know the webhook's URL."""
    provider_url = f"http://127.0.0.1:{free_port()}"
    key, signing = f"sk-{secrets.token_hex(8)}", f"whsec_{b64encode(secrets.token_bytes(24)).decode()}"
    boto3.client("ssm").put_parameter(Name=ROUTES_PARAMETER, Value=ROUTES, Type="String")
    keeper = boto3.client("secretsmanager")
    signing_arn = keeper.create_secret(Name="signing", SecretString=signing)["ARN"]
    parameters = {
        "BaseUrl": f"{provider_url}/v1",
        "RoutesParameter": ROUTES_PARAMETER,
        "WebhookSecretArn": signing_arn,
        "AssemblerSchedule": SCHEDULE,
        "PollerSchedule": SCHEDULE,
        **dict.fromkeys((f"{name}Concurrency" for name in ("Ingest", "Critical", "High", "Normal")), "2"),
    }
    outputs = _create(packaged(emulator.url, scratch, Given(parameters, packages)), parameters)
    keeper.put_secret_value(SecretId=outputs["SecretArn"], SecretString=json.dumps({"openai": key}))
    weather = scratch / "weather.toml"
    weather.write_text(
        WEATHER.format(key=key, stuck=STUCK_MODEL, signing=signing, webhook=_reachable(emulator, outputs["WebhookUrl"]))
    )
    made = Deployment(outputs, provider_url, _operator(outputs["OperatorPolicyArn"]))
    command = [LOWTIDE, "simulate", "--port", str(urlsplit(provider_url).port), "--scenario", weather]
    with running(command, os.environ, scratch / "provider.log"):
        wait_until("the provider answers", lambda: _silent(made), STARTING_S, 0.1)
        yield made


def _create(template_url: str, parameters: Mapping[str, str]) -> dict[str, str]:
    client = boto3.client("cloudformation")
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
    client.create_stack(StackName=STACK, TemplateURL=template_url, Parameters=given, Capabilities=["CAPABILITY_IAM"])

    def described() -> Any:
        return client.describe_stacks(StackName=STACK)["Stacks"][0]

    wait_until("the stack is there", lambda: described()["StackStatus"].endswith("IN_PROGRESS"), DEPLOYING_S)
    stack = described()
    if stack["StackStatus"] != "CREATE_COMPLETE":
        raise RuntimeError(f"the stack is {stack['StackStatus']}: {stack.get('StackStatusReason')}")
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def _operator(policy_arn: str) -> dict[str, str]:
    client = boto3.client("iam")
    client.create_user(UserName="operator")
    client.attach_user_policy(UserName="operator", PolicyArn=policy_arn)
    key = client.create_access_key(UserName="operator")["AccessKey"]
    return {**os.environ, "AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def _reachable(emulator: Emulator, function_url: str) -> str:
    """MiniStack gives a function's URL a name of AWS, and serves it under a path of its own."""
    name = (urlsplit(function_url).hostname or "").split(".")[0]
    return f"{emulator.url}/_aws/lambda-url/{name}/"


def _silent(made: Deployment) -> bool:
    try:
        return not made.provider("state")
    except httpx2.TransportError:
        return True
