"""A batch's input file, checked as the provider checks it: every line, with its number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from lowtide.core.batches import ValidationFault
from lowtide.core.task import Endpoint

from .asked import Asked, read_request
from .refusals import ApiError


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


def read_input(content: bytes, endpoint: Endpoint, *, max_requests: int, markers: bool) -> BatchInput:
    """Every line, or every fault, by its line's number from 1."""
    read = BatchInput()
    seen: set[str] = set()
    for number, raw in enumerate(content.split(b"\n"), start=1):
        if not raw.strip():
            continue
        try:
            line, model = _line(raw, endpoint, markers=markers)
            _fits(line.custom_id, model, seen, read.model)
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


def _fits(custom_id: str, model: str, seen: set[str], batch_model: str | None) -> None:
    if custom_id in seen:
        raise _LineFault("duplicate_custom_id", f"The custom_id '{custom_id}' was used twice.", "custom_id")
    if batch_model is not None and model != batch_model:
        raise _LineFault("mismatched_model", f"Model '{model}' is not the batch's.", "body.model")


def _line(raw: bytes, endpoint: Endpoint, *, markers: bool) -> tuple[InputLine, str]:
    """The line and its model."""
    try:
        value: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _LineFault("invalid_json_line", "This line is not parseable as valid JSON.") from None
    if not isinstance(value, dict):
        raise _LineFault("invalid_json_line", "This line is no JSON object.")
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise _LineFault("missing_required_parameter", "Missing required parameter: 'custom_id'.", "custom_id")
    if value.get("method") != "POST":
        raise _LineFault("invalid_method", "Expected the method POST.", "method")
    if value.get("url") != endpoint.value:
        raise _LineFault("invalid_url", "The URL provided for this request does not match the batch endpoint.", "url")
    body = value.get("body")
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise _LineFault("missing_required_parameter", "Missing required parameter: 'body.model'.", "body.model")
    try:
        asked = read_request(endpoint, body)
    except ApiError as error:
        return InputLine(custom_id, error, 0), body["model"]
    if markers and "bad-line" in asked.marks(1):
        raise _LineFault("invalid_request", "The prompt asked for a line that fails validation.", "body")
    return InputLine(custom_id, asked, asked.input_tokens + (asked.output_limit or 0)), body["model"]
