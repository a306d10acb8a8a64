"""Orders of batches: the body of ``POST /batches``, checked as the provider checks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lowtide.core.wording import kind

from .endpoints import Endpoint
from .files import KEPT_S
from .refusals import invalid

_METADATA_PAIRS = 16
_KEY_CHARACTERS = 64
_VALUE_CHARACTERS = 512
"""Limits of metadata. Source: the API reference."""


@dataclass(frozen=True, slots=True)
class Order:
    """A batch that is ordered. ``output_kept_s``: seconds after which its files go by themselves, or None."""

    input_file_id: str
    endpoint: Endpoint
    metadata: dict[str, str] | None
    output_kept_s: int | None


def read_order(body: object) -> Order:
    """Read an order. Raises ApiError (400), which names the parameter at fault."""
    if not isinstance(body, dict):
        raise invalid("We expected a JSON object as the body.", None)
    input_file_id = _text(body, "input_file_id")
    endpoint = _text(body, "endpoint")
    if endpoint not in set(Endpoint):
        supported = ", ".join(Endpoint)
        message = f"Invalid endpoint: {endpoint}. Supported values: {supported}."
        raise invalid(message, "endpoint", "invalid_value")
    window = _text(body, "completion_window")
    if window != "24h":
        message = f"Invalid value for 'completion_window': '{window}'. Supported values are: '24h'."
        raise invalid(message, "completion_window", "invalid_value")
    return Order(input_file_id, Endpoint(endpoint), _metadata(body.get("metadata")), _kept_s(body))


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if value is None:
        raise invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    if not isinstance(value, str):
        raise invalid(f"Invalid type for '{name}': expected a string, but got {kind(value)}.", name, "invalid_type")
    return value


def _metadata(given: Any) -> dict[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        message = f"Invalid type for 'metadata': expected an object, but got {kind(given)}."
        raise invalid(message, "metadata", "invalid_type")
    if len(given) > _METADATA_PAIRS:
        message = f"Invalid 'metadata': at most {_METADATA_PAIRS} pairs, but got {len(given)}."
        raise invalid(message, "metadata", "object_above_max_properties")
    for key, value in given.items():
        param = f"metadata.{key}"
        if not isinstance(value, str):
            message = f"Invalid type for '{param}': expected a string, but got {kind(value)}."
            raise invalid(message, param, "invalid_type")
        if len(key) > _KEY_CHARACTERS or len(value) > _VALUE_CHARACTERS:
            limits = f"{_KEY_CHARACTERS} characters for a key and {_VALUE_CHARACTERS} for a value"
            raise invalid(f"Invalid '{param}': at most {limits}.", param, "string_above_max_length")
    return given


def _kept_s(body: dict[str, Any]) -> int | None:
    given = body.get("output_expires_after")
    if given is None:
        return None
    match given:
        case {"anchor": "created_at", "seconds": int(seconds)} if seconds in KEPT_S:
            return seconds
        case _:
            message = "Invalid 'output_expires_after': expected the anchor 'created_at' and 3600 to 2592000 seconds."
            raise invalid(message, "output_expires_after", "invalid_value")
