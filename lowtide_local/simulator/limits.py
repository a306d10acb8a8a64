"""Rate limits as a provider keeps them: a bucket for each model, of requests and perhaps of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from .asked import Asked
from .refusals import rate_limited
from .scenario import RateLimit

ANY_MODEL = "*"


@dataclass(slots=True)
class _Bucket:
    """``level`` is what may be taken at ``at``."""

    per_s: float
    holds: float
    level: float
    at: datetime

    @classmethod
    def full(cls, per_minute: float, burst_s: float, now: datetime) -> _Bucket:
        holds = max(1.0, per_minute / 60 * burst_s)
        return cls(per_minute / 60, holds, holds, now)

    def flow(self, now: datetime) -> None:
        self.level = min(self.holds, self.level + self.per_s * (now - self.at).total_seconds())
        self.at = now

    def lacks_s(self, amount: float) -> float:
        """Seconds until so much may be taken; more than it holds is taken when it is full."""
        return max(0.0, (min(amount, self.holds) - self.level) / self.per_s)


class RateLimits:
    """Counts every call that is let through."""

    def __init__(self, limits: Mapping[str, RateLimit]) -> None:
        self._limits = limits
        self._buckets: dict[str, tuple[_Bucket, _Bucket | None]] = {}

    def admit(self, asked: Asked, now: datetime) -> None:
        """Raises ApiError (429) for a call that comes too early. Such a call takes nothing from the buckets."""
        if (limit := self._limit(asked.model)) is None:
            return
        requests, tokens = self._filled(asked.model, limit, now)
        needed = asked.input_tokens + (asked.output_limit or 0)
        wait_s = max(requests.lacks_s(1), tokens.lacks_s(needed) if tokens is not None else 0.0)
        if wait_s > 0:
            raise rate_limited(max(1, ceil(wait_s)))
        requests.level -= 1
        if tokens is not None:
            tokens.level -= needed

    def headers(self, model: str, now: datetime) -> dict[str, str]:
        """What an answer says of its model's limits."""
        limit = self._limit(model)
        if limit is None or not limit.headers:
            return {}
        requests, tokens = self._filled(model, limit, now)
        told = _headers("requests", limit.requests_per_minute, requests)
        if tokens is not None and limit.tokens_per_minute is not None:
            told |= _headers("tokens", limit.tokens_per_minute, tokens)
        return told

    def _limit(self, model: str) -> RateLimit | None:
        return self._limits.get(model) or self._limits.get(ANY_MODEL)

    def _filled(self, model: str, limit: RateLimit, now: datetime) -> tuple[_Bucket, _Bucket | None]:
        if model not in self._buckets:
            per_minute = limit.tokens_per_minute
            self._buckets[model] = (
                _Bucket.full(limit.requests_per_minute, limit.burst_s, now),
                None if per_minute is None else _Bucket.full(per_minute, limit.burst_s, now),
            )
        requests, tokens = self._buckets[model]
        requests.flow(now)
        if tokens is not None:
            tokens.flow(now)
        return requests, tokens


def _headers(of: str, per_minute: float, bucket: _Bucket) -> dict[str, str]:
    back_s = (bucket.holds - bucket.level) / bucket.per_s
    return {
        f"x-ratelimit-limit-{of}": f"{per_minute:.0f}",
        f"x-ratelimit-remaining-{of}": f"{max(0, int(bucket.level))}",
        f"x-ratelimit-reset-{of}": f"{back_s:.3f}s",
    }
