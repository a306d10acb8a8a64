"""The command that goes on, as it is shown."""

from __future__ import annotations

import shlex

import pytest

from lowtide_local.cli.repeat import command_line


def test_it_is_quoted_for_a_shell():
    given = ["/x/bin/lowtide", "run", "my tasks.jsonl", "--out", "it's", "--base-url", "http://localhost/v1"]
    told = command_line(given, {}, original=["python", *given])
    assert shlex.split(told)[1:] == given[1:]


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("http://x/v1?api-version=2025&key=hunter2", "'http://x/v1?api-version=2025&key=***'"),
        ("--base-url=http://x/v1?sig=hunter2", "'--base-url=http://x/v1?sig=***'"),
        ("why?.jsonl", "'why?.jsonl'"),
        ("http://x/v1", "http://x/v1"),
    ],
)
def test_what_may_be_a_secret_is_left_out(argument, shown):
    assert command_line(["lowtide", argument], {}, original=["lowtide"]).partition(" ")[2] == shown


def test_the_program_is_named_as_it_was_started():
    module = ["python", "-m", "lowtide_local.cli.main", "run"]
    assert command_line(["/x/main.py", "run"], {}, original=module) == "python -m lowtide_local.cli.main run"
    uv = {"UV_RUN_RECURSION_DEPTH": "1"}
    assert command_line(["/x/.venv/bin/lowtide", "run"], uv, original=["python"]) == "uv run lowtide run"
    assert command_line(["-c", "run"], {}, original=["python", "-c", "code", "run"]) == "lowtide run"
