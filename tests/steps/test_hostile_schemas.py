"""Schemas that senders bring, whatever they hold: their own task ends, once, and their neighbours are answered."""

from __future__ import annotations

from typing import Any

import pytest

from lowtide.core.records import Status
from lowtide.core.structured import TOO_COMPLEX
from tests.sweep.world import Life, World, form, validating

KINDS = ("email_draft", "content_generation")
GOOD = [f"good{number}" for number in range(5)]


def asking(kind: str, schema: Any) -> dict[str, Any]:
    task = form("bad", kind)
    task["request"]["body"]["response_format"]["json_schema"]["schema"] = schema
    return task


def labelled(**label: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"label": {"type": "string", **label}}, "required": ["label"]}


def bush(keyword: str, levels: int = 25) -> dict[str, Any]:
    """Two schemas for the same value at each level, so that the last is looked at 2^levels times."""
    twigs = {f"n{level}": {keyword: [{"$ref": f"#/$defs/n{level + 1}"}] * 2} for level in range(levels)}
    leaf = {f"n{levels}": keyword == "allOf"}
    return {"type": "object", "properties": {"label": {"$ref": "#/$defs/n0"}}, "$defs": twigs | leaf}


UNJUDGED = {
    "more repeats than RE2 counts": labelled(pattern="a{4294967296}"),
    "up to more repeats": labelled(pattern="^t{0,99999}ide$"),
    "looking ahead": labelled(pattern="(?=x)y"),
    "a reference to a group": labelled(pattern=r"(a)\1"),
    "deep groups": labelled(pattern="(" * 3_000 + ")" * 3_000),
    "a pattern that is none": labelled(pattern="["),
    "a long pattern": labelled(pattern="x" * 100_000),
    "a pattern too large to compile": labelled(pattern=r"\pL{1000}"),
    "a reference of 5,000 digits": labelled(allOf=[{"$ref": "#/allOf/" + "9" * 5_000}]),
    "a number of 19 digits": labelled(minLength=-(2**63)),
    "keywords of other kinds": labelled(enum=7, anyOf={}, oneOf="x", maxLength="y", pattern=[]),
}
NEVER_ENDING = {
    "itself": {"$ref": "#"},
    "itself by name": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}},
    },
    "itself below": {
        "type": "object",
        "properties": {"label": {"anyOf": [{"type": "null"}, {"$ref": "#/properties/label"}]}},
    },
}


def ends_of(world: World) -> dict[str, Any]:
    async def story(life: Life) -> dict[str, Any]:
        rows = list(life.engine.tasks.scan())
        records = {row.task_id: life.record(row.task_id) for row in rows}
        codes = [letter["error"]["code"] for letter in life.letters()]
        return {"records": records, "codes": codes}

    return world.live(story)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schema", UNJUDGED.values(), ids=UNJUDGED.keys())
def test_what_is_not_judged_is_answered_once_beside_its_neighbours(tmp_path, kind, schema):
    world = World(tmp_path, routes=validating(*KINDS))
    world.publish(asking(kind, schema), *[form(name, kind) for name in GOOD])
    assert world.work()
    ends = ends_of(world)
    assert {name: record.status for name, record in ends["records"].items()} == dict.fromkeys(
        ["bad", *GOOD], Status.ANSWERED
    )
    assert len(world.provider.billed) == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keyword", ["anyOf", "oneOf", "allOf"])
def test_a_schema_that_takes_too_long_buries_its_own_task_at_its_first_answer(tmp_path, kind, keyword):
    world = World(tmp_path, routes=validating(*KINDS))
    world.publish(asking(kind, bush(keyword)), *[form(name, kind) for name in GOOD])
    assert world.work()
    ends = ends_of(world)
    assert ends["codes"] == [TOO_COMPLEX]
    bad = ends["records"].pop("bad")
    assert (bad.status, bad.attempts) == (Status.DEAD, 1)
    assert "simplify the schema" in bad.error.message
    assert bad.cost_usd > 0
    assert {record.status for record in ends["records"].values()} == {Status.ANSWERED}
    assert len(world.provider.billed) == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schema", NEVER_ENDING.values(), ids=NEVER_ENDING.keys())
def test_a_schema_that_never_ends_is_refused_at_the_door_before_it_costs_a_call(tmp_path, kind, schema):
    world = World(tmp_path, routes=validating(*KINDS))
    world.publish(asking(kind, schema), *[form(name, kind) for name in GOOD])
    assert world.work()
    ends = ends_of(world)
    assert ends["codes"] == ["invalid_task"]
    assert {name: record.status for name, record in ends["records"].items()} == dict.fromkeys(GOOD, Status.ANSWERED)
    assert len(world.provider.billed) == 5


def test_a_type_that_is_not_validated_takes_any_schema(tmp_path):
    world = World(tmp_path)
    world.publish(asking("email_draft", NEVER_ENDING["itself by name"]))
    assert world.work()
    assert ends_of(world)["records"]["bad"].status == Status.ANSWERED
