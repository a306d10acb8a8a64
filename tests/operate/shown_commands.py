"""The `aws` commands of a page, and the rights that each needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lowtide_local.stack.authorization import Need
from lowtide_local.stack.template import load

ROOT = Path(__file__).parents[2]

PLACE = "eu-central-1:123456789012"
STACK_ID = f"arn:aws:cloudformation:{PLACE}:stack/lowtide/1"
ROUTES = f"arn:aws:ssm:{PLACE}:parameter/lowtide/routes"
PROVIDER_SECRET = f"arn:aws:secretsmanager:{PLACE}:secret:lowtide/provider-1"
WEBHOOK_SECRET = f"arn:aws:secretsmanager:{PLACE}:secret:lowtide/webhooks-1"

FUNCTIONS = tuple(
    name
    for name, resource in load(ROOT / "template.yaml").document["Resources"].items()
    if resource["Type"] == "AWS::Serverless::Function"
)

_BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_NAME = re.compile(r'"?\$\(name (\w+)\)"?')
_COMMAND = re.compile(r"(?<![\w./-])aws ([a-z0-9-]+) ([a-z0-9-]+)([^|;&)\n]*)")
_OPTION = re.compile(r"--([a-z-]+)(?:[ =]+('[^']*'|\"[^\"]*\"|(?!--)\S+(?: +(?!--|#)\w+)*))?")


@dataclass(frozen=True)
class Command:
    """``options`` by name; ``words`` is what stands before them. A ``$(name X)`` is written ``@X``."""

    service: str
    verb: str
    words: tuple[str, ...]
    options: Mapping[str, str]

    def __str__(self) -> str:
        shown = [*self.words, *(f"--{name} {value}" for name, value in self.options.items())]
        return " ".join(("aws", self.service, self.verb, *shown))

    @property
    def kind(self) -> str:
        return f"{self.service} {self.verb}"


class NotListed(LookupError):
    """A command whose rights are not written down here."""


def commands(page: str) -> Iterator[Command]:
    """Find the commands of a page in Markdown: in blocks, and between backticks.

    Raises ValueError for a fence of tildes, whose commands would not be found.
    """
    if "~~~" in page:
        raise ValueError("fence blocks with backticks")
    blocks = [block.replace("\\\n", " ") for block in _BLOCK.findall(page)]
    for text in [*blocks, *_INLINE.findall(_BLOCK.sub("", page))]:
        for service, verb, rest in _COMMAND.findall(_NAME.sub(r"@\1", text)):
            words, _, options = rest.partition("--")
            found = {name: value.strip("'\"") for name, value in _OPTION.findall(f"--{options}")}
            yield Command(service, verb, tuple(re.sub(r"\s#.*", "", words).split()), found)


def rights(command: Command) -> list[Need]:
    """Source: the service authorization reference of each service. Raises NotListed."""
    if command.kind not in _RIGHTS:
        raise NotListed(f"{command}: write down in {__name__} which rights it needs")
    return _RIGHTS[command.kind](command)


def named(command: Command, option: str) -> str:
    """The logical id that an option names. Raises ValueError where it names something that is of no template."""
    value = command.options.get(option, "")
    if not value.startswith("@"):
        raise ValueError(f'{command}: give --{option} as "$(name RESOURCE)", by the name in template.yaml')
    return value[1:]


def _stack(action: str) -> Callable[[Command], list[Need]]:
    def needed(command: Command) -> list[Need]:
        if command.options.get("stack-name", "lowtide") != "lowtide":
            raise ValueError(f"{command}: the pages call the stack lowtide")
        return [Need(f"cloudformation:{action}", STACK_ID)]

    return needed


def _queue(action: str) -> Callable[[Command], list[Need]]:
    return lambda command: [Need(f"sqs:{action}", f"arn:aws:sqs:{PLACE}:{named(command, 'queue-url')}")]


def _function(action: str) -> Callable[[Command], list[Need]]:
    def needed(command: Command) -> list[Need]:
        every = command.options["function-name"] == "$name"  # of a loop over all of them
        functions = FUNCTIONS if every else [named(command, "function-name")]
        return [Need(f"lambda:{action}", f"arn:aws:lambda:{PLACE}:function:{each}") for each in functions]

    return needed


def _source(action: str) -> Callable[[Command], list[Need]]:
    return lambda command: [
        Need(f"lambda:{action}", f"arn:aws:lambda:{PLACE}:event-source-mapping:{named(command, 'uuid')}")
    ]


def _parameter(action: str) -> Callable[[Command], list[Need]]:
    def needed(command: Command) -> list[Need]:
        if command.options["name"].partition(":")[0] != "/lowtide/routes":
            raise ValueError(f"{command}: the pages call the parameter /lowtide/routes")
        return [Need(f"ssm:{action}", ROUTES)]

    return needed


def _alarms(command: Command) -> list[Need]:
    if "CompositeAlarm" not in command.options.get("alarm-types", ""):
        raise ValueError(
            f"{command}: without --alarm-types MetricAlarm CompositeAlarm, AWS tells of no composite alarm"
        )
    return [Need("cloudwatch:DescribeAlarms", f"arn:aws:cloudwatch:{PLACE}:alarm:lowtide")]


def _copy(command: Command) -> list[Need]:
    source, target = (word.strip('"') for word in command.words)
    action, place = ("s3:PutObject", target) if target.startswith("s3://") else ("s3:GetObject", source)
    # "$(cat routes.toml)" is the object that the parameter points to.
    key = re.sub(r"^s3://(?:@Bucket|\$bucket)/", "", place) if place.startswith("s3://") else "routes/1.toml"
    return [Need(action, f"arn:aws:s3:::Bucket/{key}")]


def _put_secret(command: Command) -> list[Need]:
    secrets = {"$SecretArn": PROVIDER_SECRET, "lowtide/webhooks": WEBHOOK_SECRET}
    return [Need("secretsmanager:PutSecretValue", secrets[command.options["secret-id"]])]


_RIGHTS: Mapping[str, Callable[[Command], list[Need]]] = {
    "cloudformation describe-stacks": _stack("DescribeStacks"),
    "cloudformation describe-stack-resource": _stack("DescribeStackResource"),
    "cloudformation describe-stack-events": _stack("DescribeStackEvents"),
    "cloudformation list-stack-resources": _stack("ListStackResources"),
    "cloudformation cancel-update-stack": _stack("CancelUpdateStack"),
    "cloudformation wait": _stack("DescribeStacks"),
    "cloudwatch describe-alarms": _alarms,
    "lambda get-alias": _function("GetAlias"),
    "lambda update-alias": _function("UpdateAlias"),
    "lambda list-versions-by-function": _function("ListVersionsByFunction"),
    "lambda get-event-source-mapping": _source("GetEventSourceMapping"),
    "lambda update-event-source-mapping": _source("UpdateEventSourceMapping"),
    "lambda get-account-settings": lambda _: [Need("lambda:GetAccountSettings", None)],
    "logs tail": lambda command: [
        Need("logs:FilterLogEvents", f"arn:aws:logs:{PLACE}:log-group:{command.words[0].removeprefix('@')}:*")
    ],
    "s3 cp": _copy,
    "secretsmanager put-secret-value": _put_secret,
    "sqs receive-message": _queue("ReceiveMessage"),
    "sqs delete-message": _queue("DeleteMessage"),
    "sqs purge-queue": _queue("PurgeQueue"),
    "sqs set-queue-attributes": _queue("SetQueueAttributes"),
    "ssm get-parameter": _parameter("GetParameter"),
    "ssm put-parameter": _parameter("PutParameter"),
}
