"""The managed policy of template.yaml, held against what the command does."""

from __future__ import annotations

import json

from botocore.client import BaseClient

from lowtide_local.stack.intrinsics import Evaluator
from tests.operate.conftest import DIES
from tests.stack.stack_cases import low, task

SERVICES = {"SQS": "sqs", "DynamoDB": "dynamodb", "S3": "s3", "SSM": "ssm", "CloudFormation": "cloudformation"}
SAME_RIGHT = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "s3:HeadObject": "s3:GetObject",
}


def test_the_operators_policy_is_what_the_verbs_need(stage, lowtide, monkeypatch, tmp_path):
    """Every call that they make is granted, and nothing is granted that none of them makes."""
    played = stage()
    played.send(task("draft", text=DIES), low("m"))
    played.stack.wait(300)
    made, call = set(), BaseClient._make_api_call

    def noted(client, operation, arguments):
        action = f"{SERVICES[client.meta.service_model.service_id]}:{operation}"
        made.add(SAME_RIGHT.get(action, action))
        return call(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(json.dumps(task("late")) + "\n")
    for order in (
        ["submit", tasks],
        ["results", "--since", "1h"],
        ["results", "--ids", tasks],
        ["status"],
        ["status", "draft", "--tenant", "acme"],
        ["pause", "--all"],
        ["resume", "--all"],
        ["cancel", "m", "--tenant", "acme"],
        ["dead", "show", "draft", "--tenant", "acme"],
        ["dead", "redrive", "--all", "--yes"],
    ):
        assert lowtide(*order).code == 0
    policy = played.stack.template.document["Resources"]["OperatorPolicy"]["Properties"]["PolicyDocument"]
    statements = Evaluator(played.stack.template.document, {}).value(policy)["Statement"]
    granted = {
        action
        for statement in statements
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert made <= granted
    # Only large tasks are checked in, and only a missing object makes S3 look at the list.
    assert granted - made == {"s3:PutObject", "s3:ListBucket"}
