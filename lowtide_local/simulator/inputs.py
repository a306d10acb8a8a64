"""A batch's input file, checked as the provider checks it: every line, with its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from lowtide.core.batches import ValidationFault
from lowtide.core.wording import kind

from .asked import Asked, read_request
from .endpoints import Endpoint
from .refusals import ApiError

_FIELDS = (("custom_id", str), ("method", str), ("url", str), ("body", dict))
"""Fields that each line must have."""
_INPUT = {
    Endpoint.CHAT: "messages",
    Endpoint.RESPONSES: "input",
    Endpoint.EMBEDDINGS: "input",
    Endpoint.COMPLETIONS: "prompt",
}
_NAMES = {
    Endpoint.CHAT: "Chat Completions",
    Endpoint.RESPONSES: "Responses",
    Endpoint.EMBEDDINGS: "Embeddings",
    Endpoint.COMPLETIONS: "Completions",
}


@dataclass(frozen=True, slots=True)
class InputLine:
    custom_id: str
    asked: Asked | ApiError
    """A body that the endpoint refuses fails alone, when its line is run."""
    tokens: int
    """What it counts against the limit of enqueued tokens: its input and the output that it allows."""


@dataclass(slots=True)
class BatchInput:
    lines: list[InputLine] = field(default_factory=list)
    faults: list[ValidationFault] = field(default_factory=list)
    model: str | None = None

    @property
    def tokens(self) -> int:
        return sum(line.tokens for line in self.lines)


class _LineFault(Exception):
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.fault = ValidationFault(code=code, message=message, param=param)


def read_input(
    content: bytes, endpoint: Endpoint, *, max_requests: int, markers: bool, knows: Callable[[str], bool]
) -> BatchInput:
    """Read every line, or every line's fault with its number from 1. ``knows`` tells whether there is a model."""
    read = BatchInput()
    seen: set[str] = set()
    for number, raw in enumerate(content.split(b"\n"), start=1):
        if not raw.strip():
            continue
        try:
            line, model = _line(raw, endpoint, markers=markers)
            _fits(line.custom_id, model, seen, read.model, knows)
        except _LineFault as error:
            read.faults.append(error.fault.model_copy(update={"line": number}))
            continue
        seen.add(line.custom_id)
        read.model = model
        read.lines.append(line)
    if not read.lines and not read.faults:
        read.faults.append(ValidationFault(code="empty_file", message="The input file is empty."))
    if len(read.lines) > max_requests:
        message = f"The batch has {len(read.lines)} requests, and {max_requests} are allowed."
        read.faults = [ValidationFault(code="too_many_tasks", message=message)]
    return read


def no_input(file_id: str) -> BatchInput:
    """Return the input of a batch whose file is not there, or is another's: the batch is created all the same and
    fails."""
    message = f"Cannot find file {file_id}, or your organization does not have access to it."
    return BatchInput(faults=[ValidationFault(code="invalid_request", message=message, param="file_id")])


def no_room(model: str | None, limit: int) -> ValidationFault:
    """Return the fault of a batch that would go over the account's limit of enqueued tokens."""
    message = (
        f"Enqueued token limit reached for {model}. Limit: {limit} enqueued tokens. "
        "Please try again once some in_progress batches have been completed."
    )
    return ValidationFault(code="token_limit_exceeded", message=message)


def _fits(custom_id: str, model: str, seen: set[str], batch_model: str | None, knows: Callable[[str], bool]) -> None:
    if not knows(model):
        message = f"The provided model '{model}' is not supported by the Batch API."
        raise _LineFault("model_not_found", message, "body.model")
    if custom_id in seen:
        raise _LineFault("duplicate_custom_id", f"The custom_id '{custom_id}' was used twice.", "custom_id")
    if batch_model is not None and model != batch_model:
        raise _LineFault("mismatched_model", f"Model '{model}' is not the batch's, '{batch_model}'.", "body.model")


def _line(raw: bytes, endpoint: Endpoint, *, markers: bool) -> tuple[InputLine, str]:
    """The line and its model."""
    try:
        value: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _LineFault("invalid_json_line", "This line is not parseable as valid JSON.") from None
    if not isinstance(value, dict):
        raise _LineFault("invalid_json_line", "This line is no JSON object.")
    for name, expected in _FIELDS:
        if value.get(name) is None:
            raise _LineFault("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
        if not isinstance(value[name], expected):
            wanted = "an object" if expected is dict else "a string"
            message = f"Invalid type for '{name}': expected {wanted}, but got {kind(value[name])}."
            raise _LineFault("invalid_type", message, name)
    custom_id, body = value["custom_id"], value["body"]
    if value["method"] != "POST":
        raise _LineFault("invalid_method", "Expected the method POST.", "method")
    if value["url"] != endpoint:
        raise _LineFault("invalid_url", "The URL provided for this request does not match the batch endpoint.", "url")
    for name in ("model", _INPUT[endpoint]):
        if body.get(name) is None and not (name == "input" and "prompt" in body):
            raise _LineFault("invalid_request", f"{name.capitalize()} parameter is required.", f"body.{name}")
    model = body["model"]
    if not isinstance(model, str):
        message = f"Invalid type for 'model': expected a string, but got {kind(model)}."
        raise _LineFault("invalid_type", message, "body.model")
    if body.get("stream"):
        message = f"{_NAMES[endpoint]}: Streaming is not supported in the Batch API."
        raise _LineFault("streaming_unsupported", message, "body.stream")
    try:
        asked = read_request(endpoint, body)
    except ApiError as error:
        return InputLine(custom_id, error, 0), model
    if markers and "bad-line" in asked.marks(1):
        raise _LineFault("invalid_request", "The prompt asked for a line that fails validation.", "body")
    return InputLine(custom_id, asked, asked.input_tokens + (asked.output_limit or 0)), model
