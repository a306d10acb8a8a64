"""Chance that does not depend on the order of requests: each draw is a digest of what it is drawn for."""

from __future__ import annotations

from hashlib import blake2b


def draw(seed: int, *what: object) -> float:
    """Evenly from [0, 1), and always the same for the same arguments."""
    text = "\x1f".join(str(part) for part in (seed, *what))
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") / 2**64


def between(low: float, high: float, chance: float) -> float:
    return low + (high - low) * chance
