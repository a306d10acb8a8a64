"""What the simulated model says where a request asks for JSON of a schema: the plainest value that holds to it."""

from __future__ import annotations

from typing import Any

from .endpoints import Endpoint

_DEEPEST = 20
"""A recursive schema ends where it may."""
_MOST_ITEMS = 100
_PLAIN: dict[str, Any] = {"string": "tide", "integer": 1, "number": 1.5, "boolean": True, "null": None}


def schema_of(endpoint: Endpoint, body: dict[str, Any]) -> dict[str, Any] | None:
    """The schema asked for; None where there is none."""
    match endpoint:
        case Endpoint.CHAT:
            form = body.get("response_format")
            named = form.get("json_schema") if isinstance(form, dict) else None
        case Endpoint.RESPONSES:
            text = body.get("text")
            named = text.get("format") if isinstance(text, dict) else None
        case Endpoint.EMBEDDINGS | Endpoint.COMPLETIONS:
            named = None
    schema = named.get("schema") if isinstance(named, dict) else None
    return schema if isinstance(schema, dict) else None


def sample(schema: Any, root: dict[str, Any], depth: int = 0) -> Any:
    """Knows types, enums, const, anyOf, references and the lower bounds of numbers and arrays."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    match schema:
        case {"$ref": str(ref)}:
            return sample(_named(root, ref), root, depth + 1)
        case {"const": value} | {"enum": [value, *_]}:
            return value
        case {"anyOf": [first, *rest]}:
            # The last is where a list or a tree ends.
            return sample(rest[-1] if rest else first, root, depth + 1)
    kind = schema.get("type")
    match kind[-1] if isinstance(kind, list) else kind:
        case "object":
            properties = schema.get("properties")
            named = properties.items() if isinstance(properties, dict) else ()
            return {name: sample(each, root, depth + 1) for name, each in named}
        case "array":
            least = schema.get("minItems")
            items = min(least, _MOST_ITEMS) if isinstance(least, int) else 0
            return [sample(schema.get("items"), root, depth + 1) for _ in range(items)]
        case "integer" | "number" as number:
            return schema.get("minimum", schema.get("maximum", _PLAIN[number]))
        case plain:
            return _PLAIN.get(str(plain))


def _named(root: dict[str, Any], ref: str) -> Any:
    target: Any = root
    for step in ref.removeprefix("#").strip("/").split("/"):
        if step:
            target = target.get(step) if isinstance(target, dict) else None
    return target
