"""lowtide.core.json_schema: what holds, what does not, and what is not judged."""

from __future__ import annotations

import json

import pytest

from lowtide.core.json_schema import Effort, first_fault
from lowtide.core.schema_refs import goes_round

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": ["integer", "null"], "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
LIST = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "number"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
            "additionalProperties": False,
        }
    },
}


def nested(levels: int, inner: object = 7) -> object:
    for _ in range(levels):
        inner = [inner]
    return inner


TREE = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (PERSON, {"name": "Ada", "age": 36}),
        (PERSON, {"name": "Ada", "age": None}),
        (PERSON, {"name": "Ada", "age": 36.0}),
        (LIST, {"value": 1, "next": {"value": 2.5, "next": None}}),
        (TREE, {"children": [{"children": []}, {}]}),
        ({"enum": ["a", 1, None]}, None),
        ({"enum": ["a", 1, None]}, 1.0),
        ({"const": {"a": [1, 2]}}, {"a": [1.0, 2]}),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, 5),
        ({"oneOf": [{"minimum": 5}, {"maximum": 3}]}, 9),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2}, [True, False]),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["a", 1, 2]),
        ({"type": "array", "uniqueItems": True}, [1, True, "1"]),
        ({"type": "number", "multipleOf": 0.1}, 0.3),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4}, "tide"),
        ({"properties": {"a~b/c d": {"type": "string"}, "x": {"$ref": "#/properties/a~0b~1c%20d"}}}, {"x": "y"}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"any": 1}),
        (True, "anything"),
    ],
)
def test_a_value_holds_to_its_schema(schema, value):
    assert first_fault(value, schema) is None


@pytest.mark.parametrize(
    ("schema", "value", "fault"),
    [
        (PERSON, {"name": "Ada"}, "$ has no age"),
        (PERSON, {"name": "Ada", "age": "36"}, "$.age is not of type integer or null"),
        (PERSON, {"name": "Ada", "age": True}, "$.age is not of type integer or null"),
        (PERSON, {"name": "Ada", "age": 1.5}, "$.age is not of type integer or null"),
        (PERSON, {"name": "Ada", "age": -1}, "$.age is outside its minimum"),
        (PERSON, {"name": "Ada", "age": 1, "secret": 2}, "$ has a property beside its own, which is not allowed"),
        (PERSON, [], "$ is not of type object"),
        (LIST, {"value": 1, "next": {"value": "2", "next": None}}, "$.next holds to none of its anyOf"),
        (TREE, {"children": [{"children": [{}, {"children": 7}]}]}, "$.children[0].children[1].children is not"),
        ({"enum": [1]}, True, "$ is none of its enum"),
        ({"const": 0}, False, "$ is not its const"),
        ({"oneOf": [{"minimum": 1}, {"maximum": 3}]}, 2, "$ does not hold to exactly one"),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 4, "$ is outside its maximum"),
        ({"minItems": 1}, [], "$ has fewer items than its minItems"),
        ({"maxItems": 1}, [1, 2], "$ has more items than its maxItems"),
        ({"uniqueItems": True}, [{"a": 1}, {"a": 1.0}], "$ has items that are the same"),
        ({"multipleOf": 0.1}, 0.35, "$ is outside its multipleOf"),
        ({"exclusiveMinimum": 0}, 0, "$ is outside its exclusiveMinimum"),
        ({"pattern": "^[a-z]+$"}, "Tide", "$ does not match its pattern"),
        ({"maxLength": 3}, "tide", "$ has more characters than its maxLength"),
        ({"minProperties": 1}, {}, "$ has fewer properties than its minProperties"),
        ({"additionalProperties": {"type": "integer"}}, {"any": "1"}, "$ has a property beside its own, which is not"),
        (False, 1, "$ is not allowed"),
    ],
)
def test_the_first_fault_is_named_by_path_and_keyword(schema, value, fault):
    assert (first_fault(value, schema) or "").startswith(fault)


def test_a_fault_quotes_nothing_that_the_model_wrote():
    said = "the customer's secret"
    told = [first_fault({said: said}, PERSON), first_fault(said, {"enum": ["a"]}), first_fault(said, {"maxLength": 1})]
    assert all(fault is not None and said not in fault for fault in told)


@pytest.mark.parametrize(
    "schema",
    [
        {"format": "date"},
        {"type": "tuple"},
        {"not": {}},
        {"pattern": "("},
        {"pattern": "(?=a)b"},
        {"pattern": "a{4294967296}"},
        {"pattern": r"(a)\1"},
        {"$ref": "https://elsewhere/schema"},
        {"$ref": "#/nowhere/at/all"},
        {"type": 7, "enum": 7, "required": 7, "properties": 7, "minimum": "7", "anyOf": 7, "maxLength": None},
        {"patternProperties": {"^x": {}}, "additionalProperties": False},
        None,
        "no schema",
    ],
)
@pytest.mark.parametrize("value", ["a" * 40 + "!", {"y": 1}, 7])
def test_what_is_not_known_is_not_judged(schema, value):
    assert first_fault(value, schema) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"oneOf": [{"$ref": "#"}, {"$ref": "#"}]},
    ],
)
def test_a_schema_that_never_ends_is_given_up_and_goes_round(schema):
    effort = Effort()
    assert first_fault(7, schema, effort) is None
    assert effort.given_up
    assert goes_round(schema)


@pytest.mark.parametrize(
    "schema", [LIST, TREE, PERSON, {"$ref": "#/nowhere"}, {"anyOf": [{"$ref": "#/$defs/a"}] * 9}, 7]
)
def test_a_schema_that_goes_into_the_value_each_time_does_not_go_round(schema):
    assert not goes_round(schema)


def test_a_schema_that_would_take_exponential_time_is_given_up():
    deep: object = "text"
    for _ in range(40):
        deep = [deep]
    bush = {"anyOf": [{"type": "null"}, *[{"type": "array", "items": {"$ref": "#"}}] * 4]}
    effort = Effort()
    assert first_fault(deep, bush, effort) is None
    assert effort.given_up


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ([7] * 2_000, {"items": {"required": ["a"] * 50_000, "type": ["string"] * 50_000 + ["integer"]}}),
        ([{}] * 2_000, {"items": {"required": [1] * 50_000}}),
        ([7] * 2_000, {"items": {f"x{number}": number for number in range(20_000)}}),
        ([7] * 2_000, {"items": {"anyOf": [False] * 1_000 + [True]}}),
        (nested(900), {"uniqueItems": True, "items": {"$ref": "#"}}),
        (nested(900), {"enum": [nested(900)]}),
        (nested(70, "x" * 100_000), {"anyOf": [{"enum": [1]}, {"items": {"$ref": "#"}}]}),
        ("x", {"enum": ["y" * 4_000_000]}),
    ],
    ids=["types", "required", "keywords", "anyOf", "depth", "depth of an enum", "copies", "a large enum"],
)
def test_what_costs_too_many_steps_is_given_up(value, schema):
    effort = Effort()
    assert first_fault(value, schema, effort) is None
    assert effort.given_up


def test_an_answer_has_steps_for_its_size():
    answer = [{"name": "Ada", "age": 36}] * 60_000
    effort = Effort(len(json.dumps(answer)))
    assert first_fault(answer, {"type": "array", "items": PERSON}, effort) is None
    assert not effort.given_up


def test_one_effort_bounds_all_the_choices_of_an_answer():
    effort = Effort()
    wide = {"anyOf": [False] * 30_000 + [{"type": "integer"}]}
    assert [first_fault(7, wide, effort) for _ in range(3)] == [None] * 3
    assert not effort.given_up
    assert first_fault(7, wide, effort) is None
    assert effort.given_up


def test_a_fault_is_told_in_short_however_long_the_names_are():
    fault = first_fault({"a" * 9_000: {"b" * 9_000: 1}}, {"additionalProperties": {"required": ["c" * 9_000]}})
    assert fault is not None
    assert len(fault) < 200


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, 1.0], False),
        ([1, True, "1", None, "null", "true", [1], ["1"]], True),
        ([{"a": 1, "b": [2.0]}, {"b": [2], "a": 1.0}], False),
        ([0, -0.0], False),
        ([1e300, 1e300], False),
        (["é", "e\u0301"], True),
        ([2**53, float(2**53)], False),
        ([list(range(300))] + [[number] for number in range(20_000)], True),
    ],
)
def test_items_are_the_same_where_json_says_so(items, unique):
    assert (first_fault(items, {"uniqueItems": True}) is None) is unique
    assert first_fault(items[0], {"enum": items}) is None
    assert first_fault(items[0], {"const": items[0]}) is None


def test_numbers_beyond_what_decimals_hold_are_let_pass():
    assert first_fault(1e300, {"multipleOf": 1e-300}) is None
