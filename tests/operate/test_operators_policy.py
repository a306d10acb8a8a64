"""The operator's policy of template.yaml, held against what the command does.

In every test of this folder the command may do what that policy allows, and nothing else (conftest.py).
"""

from __future__ import annotations

import json

import typer

from lowtide_local.cli.main import app
from lowtide_local.stack.roles import evaluator_of, grants_of
from lowtide_local.stack.runner import REGION
from tests.operate.conftest import DIES
from tests.stack.stack_cases import low, task

TASKS = "tasks.jsonl"
ORDERS = (
    ["submit", TASKS],
    ["results", "--since", "1h"],
    ["results", "--ids", TASKS],
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


def verbs():
    """The verbs that work on a deployment, by the words that call them."""
    commands = typer.main.get_command(app).commands
    leaves = {(name,): command for name, command in commands.items() if not hasattr(command, "commands")}
    for group, command in commands.items():
        leaves |= {(group, name): each for name, each in getattr(command, "commands", {}).items()}
    return {words for words, command in leaves.items() if any("--stack" in each.opts for each in command.params)}


def ordered(verb):
    return [order for order in ORDERS if tuple(order[: len(verb)]) == verb]


def test_every_verb_on_a_deployment_is_given_below():
    assert {verb for verb in verbs() if not ordered(verb)} == set()


def test_the_operators_policy_is_what_the_verbs_need(stage, lowtide, tmp_path, monkeypatch):
    """Every call that they make is granted, and nothing is granted that none of them makes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / TASKS).write_text(json.dumps(task("late")) + "\n")
    played = stage()
    played.send(task("draft", text=DIES), low("m"))
    played.stack.wait(300)
    for order in ORDERS:
        if any(order in ordered(verb) for verb in verbs()):
            assert lowtide(*order).code == 0, order
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
