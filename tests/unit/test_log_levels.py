"""Every event that is logged has a level: news, a failure that passes, or something that an operator has to do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lowtide.core.log_levels import LISTED, level_of

SOURCE = Path(__file__).parents[2] / "functions" / "lowtide"
PLACE = {"log": 0, "_log": 0, "apart": 2, "_report": 1}
"""Functions that log an event, and which of their arguments names it."""
BY_STATE = {f"{whose}_{state}" for whose in ("account", "breaker") for state in ("open", "closed", "probe")}
"""Named in one f-string (steps/shared_pace.py)."""
BY_CHOICE = {"result_file_given_up", "result_file_away"}
"""Chosen before the line is written (steps/result_files.py)."""


def logged():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            place = PLACE.get(name)
            if place is None or len(node.args) <= place:
                continue
            argument = node.args[place]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value


def test_every_event_has_a_level_and_every_level_an_event():
    found = set(logged())
    assert len(found) > 40
    assert found | BY_STATE | BY_CHOICE == LISTED


@pytest.mark.parametrize(
    ("event", "level"),
    [
        ("task_settled", "INFO"),
        ("message_failed", "WARNING"),
        ("breaker_open", "WARNING"),
        ("account_open", "ERROR"),
        ("routes_refused", "ERROR"),
        ("never heard of", "INFO"),
    ],
)
def test_the_level_says_who_has_to_do_something(event, level):
    assert level_of(event) == level
