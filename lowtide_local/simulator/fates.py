"""What becomes of a request: an answer, a refusal, or an accident. One judge for calls and for lines of a batch.

A fate depends on the scenario, on the request's digest and on how often the request was seen before, and on nothing
else, so that a run ends the same whatever order its requests come in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

from lowtide.core.records import Usage

from .answers import answer
from .asked import Asked
from .catalog import Catalog
from .dice import between, draw
from .endpoints import Endpoint
from .refusals import (
    ApiError,
    content_refused,
    flex_unavailable,
    invalid,
    quota_exceeded,
    rate_limited,
    server_error,
)
from .scenario import Latency, Scenario

_CACHE_UNIT_TOKENS = 1024
"""The shortest prefix that the provider caches. Source: its prompt caching guide."""
_ERROR_STATUSES = range(400, 600)


class Manner(StrEnum):
    """How an answer is brought."""

    PLAIN = "plain"
    HANG = "timeout"
    """Billed, and not sent before the caller gives up. In a batch: ``request_timeout``, not billed."""
    DROP = "drop"
    """Billed, and the connection breaks before the answer. In a batch: as ``MISSING``."""
    GARBAGE = "garbage"
    """A 200 whose body is no JSON."""
    STRING_BODY = "string-body"
    """In a batch, the body as a JSON string."""
    MISSING = "missing"
    """In a batch, in neither file; not billed."""
    UNFINISHED = "expire"
    """In a batch, ``batch_expired``; not billed. Such a batch ends ``expired``."""
    TWICE = "twice"
    """In a batch, two equal lines; billed once."""


@dataclass(frozen=True, slots=True)
class Fate:
    """``usage`` is what is billed, None where nothing is."""

    status: int
    body: Any
    usage: Usage | None
    tier: str
    manner: Manner = Manner.PLAIN
    latency_s: float = 0.0
    retry_after_s: int | None = None


class Judge:
    """Remembers how often it has seen each request, and nothing else."""

    def __init__(self, scenario: Scenario, catalog: Catalog) -> None:
        self._scenario = scenario
        self._catalog = catalog
        self._seen: dict[str, int] = {}
        self._flex_seen: dict[str, int] = {}
        self._prefixes: set[bytes] = set()

    def next_marks(self, asked: Asked) -> frozenset[str]:
        """The marks that apply when this request is seen the next time."""
        return self._marks(asked, self._seen.get(asked.digest, 0) + 1)

    def call(self, asked: Asked, now: datetime) -> Fate:
        try:
            self._admit(asked)
            sight = self._sight(asked)
            marks = self._marks(asked, sight)
            self._forced(marks)
            self._drawn_for_a_call(asked, sight)
        except ApiError as error:
            return self._refusal(error, asked)
        body, usage = self._answer(asked, now, marks, asked.service_tier)
        latency = self._scenario.hang_s if Manner.HANG in marks else self._latency(asked, sight)
        return Fate(200, body, usage, asked.service_tier, _manner(marks), latency)

    def line(self, asked: Asked, now: datetime) -> Fate:
        """Priced as ``batch``, whatever tier its body asks for."""
        try:
            sight = self._sight(asked)
            marks = self._marks(asked, sight)
            manner = _manner(marks)
            if manner not in (Manner.MISSING, Manner.DROP, Manner.UNFINISHED, Manner.HANG):
                self._forced(marks)
                self._drawn_for_a_line(asked, sight)
        except ApiError as error:
            return self._refusal(error, asked)
        if manner in (Manner.MISSING, Manner.DROP, Manner.UNFINISHED, Manner.HANG):
            return Fate(0, None, None, "batch", manner)
        body, usage = self._answer(asked, now, marks, "default")
        return Fate(200, body, usage, "batch", manner)

    def _sight(self, asked: Asked) -> int:
        self._seen[asked.digest] = self._seen.get(asked.digest, 0) + 1
        return self._seen[asked.digest]

    def _marks(self, asked: Asked, sight: int) -> frozenset[str]:
        return asked.marks(sight) if self._scenario.markers else frozenset()

    def _admit(self, asked: Asked) -> None:
        """What is refused before it counts as seen."""
        self._catalog.admit(asked.model)
        if asked.service_tier != "flex":
            return
        if not any(fnmatchcase(asked.model, pattern) for pattern in self._scenario.flex_models):
            raise invalid(f"Flex processing is not available for {asked.model}.", "service_tier", "invalid_value")
        self._flex_seen[asked.digest] = sight = self._flex_seen.get(asked.digest, 0) + 1
        faults = self._scenario.calls
        forced = "flex-unavailable" in self._marks(asked, sight)
        if forced or (sight <= faults.tries and self._hit(faults.flex_unavailable, "flex", asked, sight)):
            raise flex_unavailable()

    def _forced(self, marks: frozenset[str]) -> None:
        for mark in sorted(marks):
            if mark == "429":
                raise rate_limited(self._scenario.calls.retry_after_s)
            if mark.isdecimal() and int(mark) in _ERROR_STATUSES:
                raise ApiError(int(mark), f"The prompt asked for HTTP {mark}.")
            if mark == "refuse":
                raise content_refused()
            if mark == "quota":
                raise quota_exceeded()

    def _drawn_for_a_call(self, asked: Asked, sight: int) -> None:
        faults = self._scenario.calls
        if self._hit(faults.refused, "refused", asked, 0):
            raise content_refused()
        if sight > faults.tries:
            return
        if self._hit(faults.rate_limited, "rate_limited", asked, sight):
            raise rate_limited(faults.retry_after_s)
        if self._hit(faults.server_error, "server_error", asked, sight):
            raise server_error()

    def _drawn_for_a_line(self, asked: Asked, sight: int) -> None:
        if self._hit(self._scenario.calls.refused, "refused", asked, 0):
            raise content_refused()
        if sight > self._scenario.calls.tries:
            return
        if self._hit(self._scenario.batch.item_rate_limited, "item_rate_limited", asked, sight):
            raise rate_limited(self._scenario.calls.retry_after_s)
        if self._hit(self._scenario.batch.item_server_error, "item_server_error", asked, sight):
            raise server_error()

    def _hit(self, share: float, what: str, asked: Asked, sight: int) -> bool:
        return share > 0 and draw(self._scenario.seed, what, asked.digest, sight) < share

    def _answer(self, asked: Asked, now: datetime, marks: frozenset[str], tier: str) -> tuple[Any, Usage]:
        dimensions = self._scenario.embedding_dimensions
        return answer(asked, now, marks, tier=tier, cached_tokens=self._cached(asked), dimensions=dimensions)

    def _cached(self, asked: Asked) -> int:
        if not self._scenario.prompt_cache or asked.input_tokens < _CACHE_UNIT_TOKENS:
            return 0
        start = asked.prompt.encode("utf-8", "surrogatepass")[: _CACHE_UNIT_TOKENS * 4]
        prefix = sha256(asked.model.encode() + b"\0" + start).digest()
        if prefix in self._prefixes:
            return _CACHE_UNIT_TOKENS
        self._prefixes.add(prefix)
        return 0

    def _refusal(self, error: ApiError, asked: Asked) -> Fate:
        """A refusal takes its time too: the shortest that its lane allows."""
        latency = self._lane(asked).min_s
        return Fate(error.status, error.body, None, asked.service_tier, Manner.PLAIN, latency, error.retry_after_s)

    def _lane(self, asked: Asked) -> Latency:
        lanes = self._scenario.latency
        if asked.endpoint is Endpoint.EMBEDDINGS:
            return lanes.embeddings
        by_tier = {"flex": lanes.flex, "priority": lanes.priority}
        return by_tier.get(asked.service_tier, lanes.default)

    def _latency(self, asked: Asked, sight: int) -> float:
        lane = self._lane(asked)
        if draw(self._scenario.seed, "slow", asked.digest, sight) < lane.slow_share:
            return lane.slow_s
        return between(lane.min_s, lane.max_s, draw(self._scenario.seed, "latency", asked.digest, sight))


def _manner(marks: frozenset[str]) -> Manner:
    return next((manner for manner in Manner if manner.value in marks), Manner.PLAIN)
