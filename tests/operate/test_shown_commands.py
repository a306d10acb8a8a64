"""Every `aws` command of the docs, held against the policies that the stack has for people."""

from __future__ import annotations

import re
from copy import deepcopy
from itertools import chain
from pathlib import Path

import orjson
import pytest
import typer

from lowtide_local.cli.main import app
from lowtide_local.stack.roles import evaluator_of, grants_of
from lowtide_local.stack.template import load
from tests.operate.shown_commands import (
    PROVIDER_SECRET,
    STACK_ID,
    WEBHOOK_SECRET,
    NotListed,
    commands,
    rights,
)
from tests.template.sam_transform import transformed_with

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for page in (ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")))
OPERATORS, MAINTAINERS = ("OperatorPolicy", "RunbookPolicy"), ("MaintainerPolicy",)

OF_MAINTAINERS = {
    "ssm put-parameter": "who writes the routes decides where prompts and the key go",
    "s3 cp": "the same, where it writes the routes",
    "secretsmanager put-secret-value": "a key",
    "sqs set-queue-attributes": "it could open a queue to others, too",
}
"""Commands that the operator's policies leave out, with the reason."""
OF_OTHERS = {
    "secretsmanager create-secret": "whoever deploys, before there is a stack with webhooks",
    "dynamodb restore-table-to-point-in-time": "whoever deploys: it makes a table of its own",
    "service-quotas request-service-quota-increase": "whoever deploys: it is about the account",
    "sqs send-message": "a publisher",
}
"""Commands that no policy of the stack grants, with who gives them."""
UNSHOWN = {
    "s3:GetObject": "the bodies that `dead show` and `dead redrive` read, in the operator's policy",
    "cloudwatch:GetDashboard": "the console",
    "cloudwatch:GetMetricData": "the console's dashboard",
    "ssm:GetParameterHistory": "the console, for which version to put again",
}
"""Rights of the runbook's and the maintainer's policy that no command uses."""


@pytest.fixture(scope="module")
def document():
    return transformed_with(load(ROOT / "template.yaml"), {})


def granted(document):
    """The grants by policy, with every parameter given; each resource bears its logical id."""
    parameters = {
        "ProviderSecretArn": PROVIDER_SECRET,
        "WebhookSecretArn": WEBHOOK_SECRET,
        "RoutesParameter": "/lowtide/routes",
    }
    physical = {name: name for name in document["Resources"]} | {"AWS::StackId": STACK_ID}
    names = {**physical, "AWS::StackName": "lowtide"}
    return grants_of(document["Resources"], evaluator_of(document, parameters, names, "eu-central-1"))


def shown():
    return list(chain.from_iterable(commands(page.read_text("utf-8")) for page in PAGES))


def lacking(document, policies, found):
    grants = [grant for policy in policies for grant in granted(document)[policy]]
    return [
        str(command)
        for command in found
        if not all(any(grant.allows(need) for grant in grants) for need in rights(command))
    ]


def test_every_command_of_the_docs_is_allowed_to_those_who_are_to_give_it(document):
    found = [command for command in shown() if command.kind not in OF_OTHERS]
    assert len(found) > 30
    left = lacking(document, OPERATORS, found)
    kinds = {command.kind for command in found if str(command) in left}
    assert kinds == OF_MAINTAINERS.keys()
    assert lacking(document, MAINTAINERS, [command for command in found if str(command) in left]) == []


def test_no_reason_is_left_over():
    assert {command.kind for command in shown()} >= OF_OTHERS.keys() | OF_MAINTAINERS.keys()


def test_what_these_policies_grant_is_used_by_a_command_of_the_docs(document):
    needed = [need for command in shown() if command.kind not in OF_OTHERS for need in rights(command)]
    used_actions = {need.action for need in needed}
    spare = {
        grant.action
        for policy in ("RunbookPolicy", "MaintainerPolicy")
        for grant in granted(document)[policy]
        if grant.action not in used_actions
    }
    assert spare <= UNSHOWN.keys(), "a right that no command needs"
    assert UNSHOWN.keys() - spare == {"s3:GetObject"}


@pytest.mark.parametrize("action", ["FilterLogEvents", "UpdateAlias", "ReceiveMessage", "PurgeQueue", "DescribeAlarms"])
def test_a_command_is_found_whose_right_was_taken_away(document, action):
    narrower = deepcopy(document)
    for statement in narrower["Resources"]["RunbookPolicy"]["Properties"]["PolicyDocument"]["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        statement["Action"] = [each for each in actions if not each.endswith(f":{action}")]
    found = [command for command in shown() if command.kind not in {*OF_OTHERS, *OF_MAINTAINERS}]
    assert lacking(document, OPERATORS, found) == []
    assert lacking(narrower, OPERATORS, found) != []


@pytest.mark.parametrize(
    ("page", "command"),
    [
        ('`aws sqs purge-queue --queue-url "$(name DeadLetterQueue)"`', "sqs purge-queue"),
        ('`aws sqs delete-message --queue-url "$(name IntakeQueue)"`', "sqs delete-message"),
        ('```\naws logs tail "$(name TableLogs)"\n```', "logs tail"),
        (
            '   ```bash\n   x=$(aws lambda update-event-source-mapping \\\n     --uuid "$(name HintedHints)")\n   ```',
            "lambda",
        ),
    ],
)
def test_a_command_beyond_the_policy_is_found_wherever_it_stands(document, page, command):
    [left] = lacking(document, OPERATORS, commands(page))
    assert command in left


@pytest.mark.parametrize(
    "page", ["`aws ec2 terminate-instances --instance-ids i-1`", "`aws iam create-user --user-name x`"]
)
def test_a_command_that_is_not_listed_is_told(page):
    [command] = commands(page)
    with pytest.raises(NotListed, match="write down"):
        rights(command)


@pytest.mark.parametrize(
    "page",
    ["`aws sqs receive-message --queue-url URL`", "`aws lambda update-event-source-mapping --uuid … --no-enabled`"],
)
def test_a_command_names_what_it_is_about_and_leaves_nothing_to_guess(page):
    [command] = commands(page)
    with pytest.raises(ValueError, match=re.escape("$(name RESOURCE)")):
        rights(command)


def test_every_resource_that_the_docs_name_is_deployed(document):
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert set(re.findall(r"\$\(name (\w+)\)", text)) <= document["Resources"].keys()


def test_every_verb_of_lowtide_that_the_docs_name_is_one_of_the_command():
    click = typer.main.get_command(app)
    text = "\n".join(page.read_text("utf-8") for page in PAGES if page.name in {"operations.md", "README.md"})
    words = re.findall(r"(?:`|^ *(?:uv run )?)lowtide ([a-z]+)(?: ([a-z]+))?", text, re.MULTILINE)
    verbs = {first for first, _ in words if first != "on"}
    assert verbs <= click.commands.keys()
    for group in ("dead", "config"):
        assert {second for first, second in words if first == group and second} <= click.commands[group].commands.keys()


@pytest.mark.parametrize("policy", [*OPERATORS, *MAINTAINERS])
def test_a_policy_is_not_larger_than_iam_takes(document, policy):
    """6,144 characters without spaces, with names as long as CloudFormation's of a stack with a long name."""
    parameters = {
        "ProviderSecretArn": PROVIDER_SECRET,
        "WebhookSecretArn": WEBHOOK_SECRET,
        "RoutesParameter": "/x" * 30,
    }
    parameters |= {"EventBusArn": "arn:aws:events:eu-central-1:123456789012:event-bus/" + "b" * 30}
    stack = "lowtide-production-eu"
    names = {name: f"{stack}-{name}-ABCDEFGHIJKLM" for name in document["Resources"]}
    names |= {"AWS::StackName": stack, "AWS::StackId": f"{STACK_ID}{'0' * 36}"}
    evaluator = evaluator_of(document, parameters, names, "eu-central-1")
    written = evaluator.value(document["Resources"][policy]["Properties"]["PolicyDocument"])
    assert len(orjson.dumps(written)) < 6_144
