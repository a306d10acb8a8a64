"""What a request body must have. Only what the provider would certainly refuse is checked; the rest passes as it is."""

from __future__ import annotations

from typing import Any, NoReturn, assert_never

from .errors import Refused
from .lanes import ASKED_LANES
from .refusals import RefusalCode
from .task import Endpoint
from .wording import kind, path, shown

MODEL_CHARACTERS = 256
"""The longest name of a model. It is part of the key of a row, of which DynamoDB takes 2,048 bytes."""

LIMITS_OF = {
    Endpoint.CHAT: ("max_completion_tokens", "max_tokens"),
    Endpoint.RESPONSES: ("max_output_tokens",),
    Endpoint.EMBEDDINGS: (),
}
"""Body fields of each endpoint that bound how much an answer may say, in tokens; the first is the one to give."""
TOKEN_LIMITS = tuple(name for names in LIMITS_OF.values() for name in names)
FOREIGN_LIMITS = ("max_new_tokens", "max_gen_len", "max_gen_toks", "max_length", "n_predict", "num_predict")
"""What compatible servers call such a bound. A cap on tokens would not see it."""
FAN_OUTS = ("n", "best_of")
"""Body fields that ask for several answers at once, each as long as the limit."""
MOST = 10_000_000
"""Bound on each of these limits: ten times what the largest model writes. Sums over a batch stay within 64 bits."""

SERVICE_TIERS = ("auto", *ASKED_LANES)
"""What ``service_tier`` may ask: a preference for a lane, ``auto`` and null for none."""

DENIED = {
    "stream": "an answer from a queue comes whole; remove it",
    "stream_options": "an answer from a queue comes whole; remove it",
    "background": "the queue is the background, and nobody would fetch the answer; remove it",
}
"""What a queue cannot honour. ``false`` and null ask for nothing, and pass."""

RULES: dict[str, Any] = {
    "required": ["model"],
    "properties": {
        "model": {"type": "string", "minLength": 1, "maxLength": MODEL_CHARACTERS},
        **{name: {"type": ["integer", "null"], "minimum": 1, "maximum": MOST} for name in (*TOKEN_LIMITS, *FAN_OUTS)},
        "service_tier": {"enum": [*SERVICE_TIERS, None]},
        **{name: {"enum": [False, None]} for name in DENIED},
    },
}
"""The rules that hold at every endpoint, as JSON Schema."""


def check_body(endpoint: Endpoint, body: dict[str, Any], at: str) -> None:
    """Raises Refused where the body cannot be answered; ``at`` is the path to the body in the message."""
    for name, value in body.items():
        # A server that is lenient with names would follow `Stream` too.
        remedy = DENIED.get(name.strip().casefold().replace("-", "_")) if len(name) < MODEL_CHARACTERS else None
        if remedy is not None and value is not None and value is not False:
            field = f"{at}.{path((name,))}"
            raise Refused(RefusalCode.UNSUPPORTED_FIELD, f"{field} cannot be honoured: {remedy}", field=field)
    _check_settings(body, at)
    for name in TOKEN_LIMITS:
        if body.get(name) is not None and name not in LIMITS_OF[endpoint]:
            remedy = f"give {LIMITS_OF[endpoint][0]}" if LIMITS_OF[endpoint] else "remove it"
            _refuse(body, at, name, remedy, problem=f"is no field of {endpoint}")
    match endpoint:
        case Endpoint.CHAT:
            _check_messages(body, at)
        case Endpoint.RESPONSES:
            # A stored prompt may bring the whole input with it.
            if not (body.get("input") is None and isinstance(body.get("prompt"), dict)):
                _check_input(body, at, "give a text or a list of items that is not empty")
        case Endpoint.EMBEDDINGS:
            _check_input(body, at, "give a text, or a list of texts or tokens that is not empty")
            if isinstance(body["input"], list) and any(item in ("", []) for item in body["input"]):
                _refuse(body, at, "input", "give texts that are not empty", problem="holds an empty text")
        case _:
            assert_never(endpoint)


def _check_settings(body: dict[str, Any], at: str) -> None:
    model = body.get("model")
    if not isinstance(model, str) or not model.strip() or not model.isprintable() or len(model) > MODEL_CHARACTERS:
        _refuse(body, at, "model", f"give the name of a model, at most {MODEL_CHARACTERS} printable characters")
    for name in (*TOKEN_LIMITS, *FAN_OUTS):
        limit = body.get(name)
        # bool is an int in Python, and is not one in JSON.
        if limit is not None and (type(limit) is not int or not 1 <= limit <= MOST):
            _refuse(body, at, name, f"give a whole number from 1 to {MOST}, or leave it out")
    if body.get("service_tier") is not None and body["service_tier"] not in SERVICE_TIERS:
        _refuse(body, at, "service_tier", f"give one of {', '.join(SERVICE_TIERS)}, or leave it out")


def _check_messages(body: dict[str, Any], at: str) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        _refuse(body, at, "messages", "give a list of at least one message")
    for place, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or not role:
            field = f"{at}.messages.{place}"
            problem = "has no role" if isinstance(message, dict) else f"is {kind(message)}"
            raise Refused(
                RefusalCode.INVALID_REQUEST, f"{field} {problem}: give an object with role and content", field=field
            )


def _check_input(body: dict[str, Any], at: str, remedy: str) -> None:
    if not isinstance(body.get("input"), str | list) or not body["input"]:
        _refuse(body, at, "input", remedy)


def _refuse(body: dict[str, Any], at: str, name: str, remedy: str, *, problem: str | None = None) -> NoReturn:
    if problem is None:
        value = body.get(name)
        # Messages and inputs are somebody's prompts: their kind is told, never their text.
        told = kind(value) if name in ("messages", "input") else shown(value)
        problem = f"is {told}" if name in body else "is missing"
    field = f"{at}.{name}"
    raise Refused(RefusalCode.INVALID_REQUEST, f"{field} {problem}: {remedy}", field=field)
