"""What the simulated model says: short, plausible, and the same for the same request."""

from __future__ import annotations

import struct
from base64 import b64encode
from datetime import datetime
from random import Random
from typing import Any

import orjson

from lowtide.core.records import Usage

from .asked import Asked, embedding_inputs
from .endpoints import Endpoint
from .structured import sample, schema_of

_VOICE = (
    "the tide goes out and what was asked is answered in few plain words because a quiet hour costs less than a busy "
    "one and nobody waits who need not wait"
)
_WORDS = _VOICE.split()
SHORT_TOKENS = 32
"""A request that allows no more wants a word, and ``[sim:says-…]`` in its prompt tells which."""
_SAYS = "says-"
LINE_SEPARATOR = "\u2028"
DECLINED = "I cannot help with that."


def answer(
    asked: Asked, now: datetime, marks: frozenset[str], *, tier: str, cached_tokens: int, dimensions: int
) -> tuple[Any, Usage]:
    """The body of a 200, and what is billed for it. ``tier`` is what the request was really served as."""
    if asked.endpoint is Endpoint.EMBEDDINGS:
        usage = Usage(input_tokens=asked.input_tokens)
        return _embeddings(asked, dimensions), usage
    words, cut = _words(asked)
    text = _text(asked, words, marks, cut=cut)
    declined = "decline" in marks
    usage = Usage(input_tokens=asked.input_tokens, cached_input_tokens=cached_tokens, output_tokens=max(1, len(words)))
    created = int(now.timestamp())
    if asked.endpoint is Endpoint.CHAT:
        return _chat(asked, text, usage, created, tier, cut=cut, declined=declined), usage
    if asked.endpoint is Endpoint.COMPLETIONS:
        return _completion(asked, text, usage, created, cut=cut), usage
    return _response(asked, text, usage, created, tier, cut=cut, declined=declined), usage


def _words(asked: Asked) -> tuple[list[str], bool]:
    """One word counts as one token. True where the request's own limit cut it short."""
    limit = asked.output_limit
    told = [mark.removeprefix(_SAYS) for mark in sorted(asked.marks(1)) if mark.startswith(_SAYS)]
    if told and limit is not None and limit <= SHORT_TOKENS:
        return told[:1], False
    dice = Random(asked.digest)
    words = dice.choices(_WORDS, k=dice.randint(8, 40))
    if limit is not None and limit < len(words):
        return words[:limit], True
    return words, False


def _text(asked: Asked, words: list[str], marks: frozenset[str], *, cut: bool) -> str:
    text = " ".join(words)
    schema = schema_of(asked.endpoint, asked.body)
    if schema is not None:
        text = orjson.dumps({"misfit": text} if "misfit" in marks else sample(schema, schema)).decode()
        return text[: len(text) // 2] if cut else text
    return f"before{LINE_SEPARATOR}after {text}" if "u2028" in marks else text


def _chat(
    asked: Asked, text: str, usage: Usage, created: int, tier: str, *, cut: bool, declined: bool
) -> dict[str, Any]:
    content, refusal = (None, DECLINED) if declined else (text, None)
    return {
        "id": f"chatcmpl-{asked.digest[:24]}",
        "object": "chat.completion",
        "created": created,
        "model": asked.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": refusal, "annotations": []},
                "logprobs": None,
                "finish_reason": "length" if cut else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": tier,
        "system_fingerprint": None,
    }


def _completion(asked: Asked, text: str, usage: Usage, created: int, *, cut: bool) -> dict[str, Any]:
    return {
        "id": f"cmpl-{asked.digest[:24]}",
        "object": "text_completion",
        "created": created,
        "model": asked.model,
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": "length" if cut else "stop"}],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
        "system_fingerprint": None,
    }


def _response(
    asked: Asked, text: str, usage: Usage, created: int, tier: str, *, cut: bool, declined: bool
) -> dict[str, Any]:
    said = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": f"resp_{asked.digest[:48]}",
        "object": "response",
        "created_at": created,
        "status": "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": asked.body.get("instructions"),
        "max_output_tokens": asked.body.get("max_output_tokens"),
        "metadata": asked.body.get("metadata") or {},
        "model": asked.model,
        "output": [
            {
                "id": f"msg_{asked.digest[:48]}",
                "type": "message",
                "status": "incomplete" if cut else "completed",
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": DECLINED} if declined else said],
            }
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": tier,
        "store": False,
        "temperature": asked.body.get("temperature", 1.0),
        "text": asked.body.get("text") or {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": asked.body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_input_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
        "user": asked.body.get("user"),
    }


def _embeddings(asked: Asked, dimensions: int) -> dict[str, Any]:
    length = asked.body.get("dimensions") or dimensions
    as_base64 = asked.body.get("encoding_format") == "base64"
    data = []
    for index, given in enumerate(embedding_inputs(asked.body)):
        vector = _vector(f"{asked.model} {given}", length)
        encoded = b64encode(struct.pack(f"<{length}f", *vector)).decode() if as_base64 else vector
        data.append({"object": "embedding", "index": index, "embedding": encoded})
    tokens = asked.input_tokens
    return {
        "object": "list",
        "data": data,
        "model": asked.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _vector(of: str, length: int) -> list[float]:
    """Of length one, as the provider's are."""
    dice = Random(of)
    raw = [dice.uniform(-1, 1) for _ in range(length)]
    norm = sum(each * each for each in raw) ** 0.5 or 1.0
    return [each / norm for each in raw]
