"""References inside a schema: what each names, and whether following them ever comes to an end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from .jsontext import layers

_INDEX_DIGITS = 9
"""Digits of a place in a list that a reference names. Python reads no number of more than 4,300 digits."""
_COMBINED = ("anyOf", "oneOf", "allOf")
_LEADS_ON = frozenset({"$ref", *_COMBINED})


def resolved(root: Any, ref: str) -> Any:
    """What a reference inside the same schema names; None for any other."""
    if not ref.startswith("#"):
        return None
    target = root
    for step in ref[1:].split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and name.isdecimal() and len(name) <= _INDEX_DIGITS and int(name) < len(target):
            target = target[int(name)]
        elif isinstance(target, dict) and name in target:
            target = target[name]
        else:
            return None
    return target


def goes_round(root: Any) -> bool:
    """Does a schema in it lead back to itself without going into the value, so that judging by it never ends."""
    targets: dict[str, Any] = {}
    done: set[int] = set()
    for start in (each for layer in layers(root) for each in layer if isinstance(each, dict)):
        if id(start) in done or _LEADS_ON.isdisjoint(start):
            continue
        way, entered = [(start, _same_value(start, root, targets))], {id(start)}
        while way:
            schema, following = way[-1]
            after = next(following, None)
            if after is None:
                way.pop()
                entered.discard(id(schema))
                done.add(id(schema))
            elif id(after) in entered:
                return True
            elif id(after) not in done and not _LEADS_ON.isdisjoint(after):
                way.append((after, _same_value(after, root, targets)))
                entered.add(id(after))
    return False


def _same_value(schema: dict[str, Any], root: Any, targets: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that hold for the same value as this one."""
    if isinstance(ref := schema.get("$ref"), str):
        if ref not in targets:
            targets[ref] = resolved(root, ref)
        if isinstance(targets[ref], dict):
            yield targets[ref]
    for name in _COMBINED:
        each = schema.get(name)
        yield from (inner for inner in each if isinstance(inner, dict)) if isinstance(each, list) else ()
