"""Structured outputs: does an answer hold to the schema that its request asked for.

Judged only where the task's type says ``validate_output``, and only where the request carries a schema. An answer that
does not hold may hold the next time: it is a try that was billed. A refusal, by the model or by a content filter, will
not, and neither will a schema that takes too long to judge by: its task dies, alone and at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from .json_schema import Effort, first_fault
from .outcomes import Again, Answered, Bury, Outcome, Response
from .schema_refs import goes_round
from .task import AcceptedTask, Endpoint

INVALID_OUTPUT = "invalid_output"
REFUSED = "model_refusal"
FILTERED = "content_filter"
TOO_COMPLEX = "schema_too_complex"
SCHEMA_AT = {Endpoint.CHAT: "response_format.json_schema.schema", Endpoint.RESPONSES: "text.format.schema"}
"""Where in its body a request has the schema."""


@dataclass(frozen=True, slots=True)
class _Output:
    """One choice of an answer. ``text`` is None where it says nothing, such as a call of a tool. ``cut``: it ended at
    its limit of tokens; ``filtered``: at a content filter."""

    text: str | None
    refused: bool = False
    cut: bool = False
    filtered: bool = False


def checked(outcome: Outcome, response: Response | None, task: AcceptedTask) -> Outcome:
    """``outcome``, unless it is an answer that is not what was asked for: Again or Bury, ``billed``."""
    if not isinstance(outcome, Answered) or response is None or not task.validate_output:
        return outcome
    schema = asked_schema(task.body, task.endpoint)
    if schema is None:
        return outcome
    outputs = list(_outputs(response.body, task.endpoint))
    effort = Effort(sum(len(output.text or "") for output in outputs))
    faults = (_fault(output, schema, effort) for output in outputs)
    return next((fault for fault in faults if fault is not None), outcome)


def asked_schema(body: dict[str, Any] | None, endpoint: Endpoint) -> Any:
    """The schema that a request asks its answer to hold to; None where it asks for none."""
    match endpoint:
        case Endpoint.CHAT:
            form = _at(body, "response_format")
            return _at(form, "json_schema", "schema") if _at(form, "type") == "json_schema" else None
        case Endpoint.RESPONSES:
            form = _at(body, "text", "format")
            return _at(form, "schema") if _at(form, "type") == "json_schema" else None
        case Endpoint.EMBEDDINGS:
            return None


def unjudgeable(body: dict[str, Any], endpoint: Endpoint) -> str | None:
    """Return why no answer could be held to the schema that a request asks for. None: it can be tried."""
    if goes_round(asked_schema(body, endpoint)):
        return "refers to itself without going into the answer: break the loop, or leave the schema out"
    return None


def _fault(output: _Output, schema: Any, effort: Effort) -> Again | Bury | None:
    if output.refused:
        return Bury(REFUSED, "the model refused to answer in the form that was asked for", billed=True)
    if output.filtered:
        return Bury(FILTERED, "a content filter ended the answer", billed=True)
    if output.text is None:
        return None
    try:
        value = orjson.loads(output.text)
    except orjson.JSONDecodeError:
        why = "it was cut off at its limit of tokens" if output.cut else "it is no JSON"
        return _invalid(why)
    fault = first_fault(value, schema, effort)
    if effort.given_up:
        why = "the answer cannot be held to the schema of its request: that takes too many steps; simplify the schema"
        return Bury(TOO_COMPLEX, why, billed=True)
    return None if fault is None else _invalid(fault)


def _invalid(why: str) -> Again:
    return Again(INVALID_OUTPUT, f"the answer does not hold to the schema of its request: {why}"[:500], billed=True)


def _outputs(body: Any, endpoint: Endpoint) -> Iterator[_Output]:
    if endpoint is Endpoint.CHAT:
        choices = [choice for choice in _list(body, "choices") if isinstance(choice, dict)]
        yield from (_choice(choice) for choice in choices)
        if not choices:
            yield _Output("")
    else:
        yield _response(body)


def _choice(choice: dict[str, Any]) -> _Output:
    message = choice.get("message")
    content, reason = _at(message, "content"), choice.get("finish_reason")
    called = bool(_list(message, "tool_calls"))
    return _Output(
        text=content if isinstance(content, str) else None if called else "",
        refused=isinstance(_at(message, "refusal"), str),
        cut=reason == "length",
        filtered=reason == "content_filter",
    )


def _response(body: Any) -> _Output:
    """The text of all its messages; what else is in ``output`` (reasoning, calls of tools) is no text."""
    items = [item for item in _list(body, "output") if isinstance(item, dict)]
    parts = [part for item in items if item.get("type") == "message" for part in _list(item, "content")]
    texts = [part["text"] for part in parts if isinstance(_at(part, "text"), str)]
    called = any(str(item.get("type")).endswith("_call") for item in items)
    reason = _at(body, "incomplete_details", "reason")
    return _Output(
        text=None if not texts and called else "".join(texts),
        refused=any(_at(part, "type") == "refusal" for part in parts),
        cut=reason == "max_output_tokens",
        filtered=reason == "content_filter",
    )


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _list(value: Any, name: str) -> list[Any]:
    inner = _at(value, name)
    return inner if isinstance(inner, list) else []
