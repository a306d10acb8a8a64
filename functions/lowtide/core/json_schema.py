"""JSON Schema, as far as structured outputs use it: does a value hold to it, and where does it not.

Strict about what it knows (types, enum, const, anyOf, allOf, objects, arrays, bounds, pattern, multipleOf, $ref with
recursion). What it does not know it does not judge: a keyword of another dialect lets every value pass, as do
``format`` and a pattern that might take for ever. Source of the subset: the provider's guide to structured outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

DEEPEST = 150
"""Schemas inside each other, references counted: far more than the provider takes, and within Python's stack."""
MOST_STEPS = 100_000
"""Schemas looked at for one value: a recursive anyOf may take exponentially many."""
LONGEST_MATCHED = 256
"""Characters of a text that a pattern is tried on."""
MOST_REPEATS = 3
"""Unbounded ones in a pattern: Python tries each at every place, so that time grows with that power of the length."""

_REPEAT = re.compile(r"[*+]|\{\d*,\d*\}")
_WILD = re.compile(r"\)[*+{?]|\\[1-9]|\(\?P=")
"""A repeated group, or one that is referred to: exponential time."""


def _is_number(value: Any) -> bool:
    # bool is an int in Python, and is not one in JSON.
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def first_fault(value: Any, schema: Any) -> str | None:
    """Where ``value`` breaks ``schema``, by path and keyword and without quoting it; None where it holds, or where to
    find out would take too long. Whatever ``schema`` is, nothing is raised.
    """
    try:
        return next(_faults(value, schema, _Root(schema), "$", 0), None)
    except _Unjudged:
        return None


class _Unjudged(Exception):
    """Too deep, or too much."""


@dataclass
class _Root:
    """The schema that references start from, and how many schemas have been looked at."""

    schema: Any
    steps: int = 0

    def step(self, depth: int) -> None:
        self.steps += 1
        if depth > DEEPEST or self.steps > MOST_STEPS:
            raise _Unjudged


def _faults(value: Any, schema: Any, root: _Root, at: str, depth: int) -> Iterator[str]:
    root.step(depth)
    if schema is False:
        yield f"{at} is not allowed"
    if not isinstance(schema, dict):
        return
    if isinstance(ref := schema.get("$ref"), str) and (target := _resolved(root.schema, ref)) is not None:
        yield from _faults(value, target, root, at, depth + 1)
    kinds = schema.get("type")
    named = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    known = [_TYPES[kind] for kind in named if isinstance(kind, str) and kind in _TYPES]
    if known and len(known) == len(named) and not any(holds(value) for holds in known):
        yield f"{at} is not of type {' or '.join(named)}"
        return
    if isinstance(choices := schema.get("enum"), list) and not any(_same(value, each) for each in choices):
        yield f"{at} is none of its enum"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{at} is not its const"
    yield from _combined(value, schema, root, at, depth)
    match value:
        case dict():
            yield from _object(value, schema, root, at, depth)
        case list():
            yield from _array(value, schema, root, at, depth)
        case str():
            yield from _text(value, schema, at)
        case _ if _is_number(value):
            yield from _number(value, schema, at)


def _combined(value: Any, schema: dict[str, Any], root: _Root, at: str, depth: int) -> Iterator[str]:
    if isinstance(some := schema.get("anyOf"), list) and not any(_holds(value, each, root, at, depth) for each in some):
        yield f"{at} holds to none of its anyOf"
    if isinstance(one := schema.get("oneOf"), list) and sum(_holds(value, each, root, at, depth) for each in one) != 1:
        yield f"{at} does not hold to exactly one of its oneOf"
    every = schema.get("allOf")
    for each in every if isinstance(every, list) else ():
        yield from _faults(value, each, root, at, depth + 1)


def _holds(value: Any, schema: Any, root: _Root, at: str, depth: int) -> bool:
    return next(_faults(value, schema, root, at, depth + 1), None) is None


def _object(value: dict[str, Any], schema: dict[str, Any], root: _Root, at: str, depth: int) -> Iterator[str]:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if isinstance(name, str) and name not in value:
            yield f"{at} has no {name}"
    rest = schema.get("additionalProperties", True)
    # Those of patternProperties are not judged, and so not refused either.
    patterns = bool(schema.get("patternProperties"))
    for name, inner in value.items():
        if name in properties:
            yield from _faults(inner, properties[name], root, f"{at}.{name}", depth + 1)
        elif not patterns:
            # Not named: what the schema does not know of is the model's own text.
            yield from _faults(inner, rest, root, f"{at} has a property beside its own, which", depth + 1)
    yield from _count(len(value), schema, "minProperties", "maxProperties", f"{at} has", "properties")


def _array(value: list[Any], schema: dict[str, Any], root: _Root, at: str, depth: int) -> Iterator[str]:
    first = schema.get("prefixItems")
    first = first if isinstance(first, list) else []
    for place, inner in enumerate(value):
        each = first[place] if place < len(first) else schema.get("items")
        yield from _faults(inner, each, root, f"{at}[{place}]", depth + 1)
    yield from _count(len(value), schema, "minItems", "maxItems", f"{at} has", "items")
    if schema.get("uniqueItems") is True and any(
        _same(one, other) for place, one in enumerate(value) for other in value[:place]
    ):
        yield f"{at} has items that are the same"


def _text(value: str, schema: dict[str, Any], at: str) -> Iterator[str]:
    yield from _count(len(value), schema, "minLength", "maxLength", f"{at} has", "characters")
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and len(value) <= LONGEST_MATCHED and _is_tame(pattern):
        try:
            found = re.search(pattern, value)
        except re.error:  # another dialect of patterns than Python's
            return
        if found is None:
            yield f"{at} does not match its pattern"


def _is_tame(pattern: str) -> bool:
    """The sender's pattern runs in our function, which everybody shares."""
    return len(_REPEAT.findall(pattern)) <= MOST_REPEATS and _WILD.search(pattern) is None


def _number(value: float, schema: dict[str, Any], at: str) -> Iterator[str]:
    bounds: tuple[tuple[str, Callable[[Any], bool]], ...] = (
        ("minimum", lambda bound: value >= bound),
        ("maximum", lambda bound: value <= bound),
        ("exclusiveMinimum", lambda bound: value > bound),
        ("exclusiveMaximum", lambda bound: value < bound),
        ("multipleOf", lambda bound: _is_multiple(value, bound)),
    )
    for name, within in bounds:
        bound = schema.get(name)
        if _is_number(bound) and not within(bound):
            yield f"{at} is outside its {name}"


def _is_multiple(value: float, of: float) -> bool:
    """In decimals, as they are written: 0.3 is a multiple of 0.1."""
    try:
        return of <= 0 or Decimal(str(value)) % Decimal(str(of)) == 0
    except ArithmeticError:  # beyond what decimals are exact for
        return True


def _count(count: int, schema: dict[str, Any], least: str, most: str, at: str, what: str) -> Iterator[str]:
    low, high = schema.get(least, 0), schema.get(most, count)
    if _is_number(low) and count < low:
        yield f"{at} fewer {what} than its {least}"
    if _is_number(high) and count > high:
        yield f"{at} more {what} than its {most}"


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, and not true."""
    match one, other:
        case bool(), _:
            return one is other
        case _, bool():
            return False
        case dict(), dict():
            return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
        case list(), list():
            return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
        case _:
            return bool(one == other)


def _resolved(root: Any, ref: str) -> Any:
    """What a reference inside the same schema names; None for any other."""
    if not ref.startswith("#"):
        return None
    target = root
    for step in ref[1:].split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
            target = target[int(name)]
        elif isinstance(target, dict) and name in target:
            target = target[name]
        else:
            return None
    return target
