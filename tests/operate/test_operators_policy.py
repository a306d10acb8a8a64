"""The operator's policy of template.yaml, held against what the command does.

In every test of this folder the command may do what that policy allows, and nothing else (conftest.py).
"""

from __future__ import annotations

from lowtide_local.stack.roles import evaluator_of, grants_of
from lowtide_local.stack.runner import REGION
from tests.operate.conftest import DIES
from tests.stack.stack_cases import low, task

ORDERS = (
    ["status"],
    ["status", "m", "--tenant", "acme"],
    ["batches"],
    ["pause", "--all"],
    ["resume", "--all"],
    ["cancel", "m", "--tenant", "acme"],
    ["dead", "list"],
    ["dead", "show", "draft", "--tenant", "acme"],
    ["dead", "redrive", "--all", "--yes"],
)
UNUSED = {
    "CheckInLargeMessages": "tasks above the size of a message, which a redrive sends again",
    "TellMissingFromForbidden": "only a missing object makes S3 look at the list",
    "Redrive": "the queues of the other tiers",
    "ReadTasksAndLetters": "a letter too large for its row",
}
"""Statements of which these orders do not use every right, with the reason."""


def test_the_operators_policy_is_what_the_verbs_need(stage, lowtide):
    """Every call that they make is granted, and nothing is granted that none of them makes."""
    played = stage()
    played.send(task("draft", text=DIES), low("m"))
    played.stack.wait(300)
    for order in ORDERS:
        assert lowtide(*order).code == 0
    stack = played.stack
    assert stack.roles.refused == []
    evaluator = evaluator_of(stack.template.document, stack.template.parameters, stack.physical, REGION)
    granted = grants_of(stack.template.document["Resources"], evaluator)["OperatorPolicy"]
    made = [call.need for call in stack.roles.calls if call.caller == "OperatorPolicy"]
    unused = {grant.sid for grant in granted if not any(grant.allows(need) for need in made)}
    assert unused == UNUSED.keys()


def test_a_verb_beyond_the_policy_is_refused_in_one_line(stage, lowtide):
    played = stage()
    played.stack.roles.callers["OperatorPolicy"] = []
    ended = lowtide("status")
    assert ended.code == 1
    assert "AWS refused DescribeStacks: AccessDenied" in ended.said
    played.stack.roles.refused.clear()
