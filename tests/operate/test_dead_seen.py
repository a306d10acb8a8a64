"""``lowtide dead``: found, shown, and left as they are."""

from __future__ import annotations

import json

import pytest

from tests.operate.conftest import DIES
from tests.stack.stack_cases import task


def listed(lowtide, *options):
    return [each["task_id"] for each in json.loads(lowtide("dead", "list", "--json", *options).out)["dead"]]


def test_the_last_to_die_is_listed_first(buried, lowtide):
    assert listed(lowtide)[0] == "bulk"
    assert sorted(listed(lowtide)) == ["bulk", "draft", "voice"]
    shown = lowtide("dead", "list")
    assert shown.code == 0
    assert "content_policy_violation" in shown.out
    assert "\x1b" not in shown.out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tenant", "globex"], ["voice"]),
        (["--type", "email_draft"], ["draft"]),
        (["--code", "unheard_of"], []),
        (["--newer-than", "10m"], ["bulk"]),
        (["--newer-than", "10m", "--older-than", "7d"], []),
        (["--limit", "1"], ["bulk"]),
    ],
)
def test_they_are_filtered(buried, lowtide, options, expected):
    assert listed(lowtide, *options) == expected


def test_a_list_says_when_there_are_more(buried, lowtide):
    assert json.loads(lowtide("dead", "list", "--limit", "2", "--json").out)["more"] is True
    assert json.loads(lowtide("dead", "list", "--limit", "3", "--json").out)["more"] is False
    assert "the last 2 (--limit)" in lowtide("dead", "list", "--limit", "2").out


def test_an_age_that_is_none_is_wrong_usage(buried, lowtide):
    for age in ("yesterday", "999999999999d"):
        ended = lowtide("dead", "list", "--older-than", age)
        assert (ended.code, ended.out) == (2, "")
        assert "2h" in ended.said


def test_a_letter_shows_the_task_as_it_came_and_what_it_died_of(buried, lowtide):
    shown = json.loads(lowtide("dead", "show", "draft", "--tenant", "acme", "--json").out)
    assert shown["task"] == task("draft", text=DIES)
    assert shown["error"]["code"] == "content_policy_violation"
    text = lowtide("dead", "show", "draft", "--tenant", "acme").out
    assert f'"content": "{DIES} draft"' in text


def test_only_a_dead_task_has_a_letter(buried, lowtide):
    for name in ("fine", "nobody"):
        ended = lowtide("dead", "show", name, "--tenant", "acme")
        assert (ended.code, ended.out) == (1, "")
        assert name in ended.said


def test_where_nobody_can_be_asked_it_wants_to_be_told(lowtide):
    for options in ([], ["--json"]):
        ended = lowtide("dead", "redrive", "--all", *options)
        assert (ended.code, ended.out) == (2, "")
        assert "--yes" in ended.said


def test_it_wants_to_know_which(lowtide):
    for options in ([], ["draft", "--all"], ["draft", "--code", "x"]):
        ended = lowtide("dead", "redrive", *options, "--yes")
        assert (ended.code, ended.out) == (2, "")


def test_a_dry_run_changes_nothing(buried, lowtide):
    document = json.loads(lowtide("dead", "redrive", "--all", "--dry-run", "--json").out)
    assert (document["tasks"], document["redriven"]) == (3, 0)
    assert {row.generation for row in buried.rows()} == {0}
