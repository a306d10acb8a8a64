"""A request as the provider understands it, whether it came as a call or as a line of a batch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from lowtide.core.wording import kind

from .endpoints import Endpoint
from .refusals import invalid

_MARK = re.compile(r"\[sim:([a-z0-9-]+)\]")
_SIGHTS = {"once": 1, "twice": 2}
_BYTES_PER_TOKEN = 4
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
_SERVED_AS = {"auto": "default", "scale": "default", "fast": "priority"}
"""Other words for a tier, legal to send. Nobody here has bought scale units."""
_TIERS = frozenset({"default", "flex", "priority", *_SERVED_AS})


@dataclass(frozen=True, slots=True)
class Asked:
    """``digest`` is of the endpoint and the body without its ``service_tier``: what makes two requests the same."""

    endpoint: Endpoint
    model: str
    body: dict[str, Any]
    prompt: str
    service_tier: str
    digest: str

    @property
    def input_tokens(self) -> int:
        return max(1, -(-len(self.prompt.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN))

    @property
    def output_limit(self) -> int | None:
        return next((self.body[name] for name in _LIMITS if self.body.get(name) is not None), None)

    def marks(self, sight: int) -> frozenset[str]:
        """The outcomes that the prompt forces at this sight, from 1: ``[sim:500]`` at each, ``[sim:500-once]`` at the
        first and ``[sim:500-twice]`` at the first two."""
        return frozenset(_marks(self.prompt, sight)) if "[sim:" in self.prompt else frozenset()


def _marks(prompt: str, sight: int) -> Iterator[str]:
    for text in _MARK.findall(prompt):
        name, _, often = text.rpartition("-")
        if name and often in _SIGHTS:
            if sight <= _SIGHTS[often]:
                yield name
        else:
            yield text


def read_request(endpoint: Endpoint, body: object) -> Asked:
    """Raises ApiError for what the provider would refuse to look at."""
    if not isinstance(body, dict):
        raise invalid("We expected a JSON object as the body.", None)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("you must provide a model parameter", "model", "missing_required_parameter")
    if body.get("stream"):
        raise invalid("The simulated provider does not stream.", "stream", "unsupported_value")
    for name in _LIMITS:
        limit = body.get(name)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise invalid(f"Invalid '{name}': expected a positive integer.", name, "integer_below_min_value")
    prompt = "\n".join(_prompt(endpoint, body))
    tier = body.get("service_tier") or "default"
    if endpoint is Endpoint.EMBEDDINGS and "service_tier" in body:
        raise invalid("Unrecognized request argument supplied: service_tier", "service_tier")
    if not isinstance(tier, str) or tier not in _TIERS:
        raise invalid(f"Invalid value: '{tier}'.", "service_tier", "invalid_value")
    content = {name: value for name, value in body.items() if name != "service_tier"}
    digest = sha256(endpoint.encode() + orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return Asked(endpoint, model, body, prompt, _SERVED_AS.get(tier, tier), digest)


def _prompt(endpoint: Endpoint, body: dict[str, Any]) -> list[str]:
    match endpoint:
        case Endpoint.CHAT:
            messages = body.get("messages")
            if not isinstance(messages, list) or not messages:
                raise invalid("Invalid 'messages': expected a non-empty array.", "messages", "empty_array")
            for place, message in enumerate(messages):
                _check_message(f"messages[{place}]", message)
            return [text for message in messages for text in _texts(message)]
        case Endpoint.RESPONSES:
            # A stored prompt may bring the whole input with it.
            if not body.get("input") and not isinstance(body.get("prompt"), dict):
                raise invalid("Missing required parameter: 'input'.", "input", "missing_required_parameter")
            return [*_texts(body.get("instructions")), *_texts(body.get("input"))]
        case Endpoint.EMBEDDINGS:
            inputs = embedding_inputs(body)
            return [each if isinstance(each, str) else " ".join(map(str, each)) for each in inputs]
        case Endpoint.COMPLETIONS:
            if not (prompt := list(_texts(body.get("prompt")))):
                raise invalid("Missing required parameter: 'prompt'.", "prompt", "missing_required_parameter")
            return prompt


def _check_message(place: str, message: Any) -> None:
    if not isinstance(message, dict):
        raise invalid(
            f"Invalid type for '{place}': expected an object, but got {kind(message)}.", place, "invalid_type"
        )
    role = message.get("role")
    if role is None:
        raise invalid(f"Missing required parameter: '{place}.role'.", f"{place}.role", "missing_required_parameter")
    if role not in _ROLES:
        raise invalid(
            f"Invalid value: '{role}'. Supported values are: {', '.join(sorted(_ROLES))}.",
            f"{place}.role",
            "invalid_value",
        )


def embedding_inputs(body: dict[str, Any]) -> list[Any]:
    """One entry for each vector: texts, or lists of tokens."""
    given = body.get("input")
    dimensions = body.get("dimensions")
    if dimensions is not None and (not isinstance(dimensions, int) or dimensions < 1):
        raise invalid("Invalid 'dimensions': expected a positive integer.", "dimensions")
    if isinstance(given, str) and given:
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(each, int) for each in given):
            return [given]
        if all(isinstance(each, str | list) and each for each in given):
            return given
    raise invalid("'$.input' is invalid: expected text or a non-empty array of it.", "input")


def _texts(value: Any) -> Iterator[str]:
    """The text in messages, items and their parts, at whatever depth they keep it."""
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _texts(each)
        case {"content": content}:
            yield from _texts(content)
        case {"text": text}:
            yield from _texts(text)
        case _:
            pass
