"""What requests begin with, as a key that sorts those that begin alike side by side.

Providers cache a prompt by its beginning and route by it: neighbours in a batch's file that share a beginning are the
likeliest to meet what is cached.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

BEGIN = (256, 1_024, 4_096, 16_384, 65_536)
"""Bytes of a prompt over which two are compared, shortest first. A prefix is cached from 1,024 tokens on, about 4 KB of
English, and is routed by its first few hundred tokens (OpenAI's guide to prompt caching)."""

DIGEST_BYTES = 6
"""A chance meeting in one batch costs nothing but a place in its order."""

FIRST = ("prompt_cache_key", "tools", "response_format", "text", "instructions", "messages", "input")
"""The fields that a prompt is made of, in the order in which a provider puts them before the model."""


def prefix_key(body: dict[str, Any]) -> bytes:
    """Requests with the same first 256 bytes sort together, among them those with the same 1,024, and so on.

    The order of different beginnings means nothing.
    """
    text = "".join(json.dumps(body.get(name)) for name in FIRST)[: BEGIN[-1]].encode("ascii")
    return b"".join(blake2b(text[:length], digest_size=DIGEST_BYTES).digest() for length in BEGIN)
