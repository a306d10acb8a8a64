"""What tokens cost, by model, lane, kind of token and day: from a dated table, in exact decimal arithmetic.

The table is data (``prices.json``, written by ``python -m lowtide_local.pricing``); docs/costs.md says where its
numbers come from. What is not in the table has no price: ``None``, never a guess.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Any

from pydantic import Field

from .lanes import ASKED_LANES, Lane
from .model import Usd, Value
from .records import Usage
from .task import Endpoint

SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
"""How the provider dates a model: ``gpt-5.4-mini-2026-03-17``."""

PREFIX = "openai/"
"""How routers spell the provider whose prices these are. Another provider's prefix is another provider's price."""

MILLION = 6
"""Prices are per 10^6 tokens."""

SERVICE_TIERS = {**ASKED_LANES, "auto": Lane.DEFAULT}
"""Lanes by the ``service_tier`` of an answer. ``ultrafast`` has no lane of its own; it costs at least as much as
priority."""


_MOST_TOKENS = 10**9
"""Hundreds of times what any model reads at once: a server that tells of more is mistaken."""

_COUNTS: dict[Endpoint, tuple[str, str | None]] = {
    Endpoint.CHAT: ("prompt_tokens", "completion_tokens"),
    Endpoint.RESPONSES: ("input_tokens", "output_tokens"),
    Endpoint.EMBEDDINGS: ("prompt_tokens", None),
}
"""What each endpoint calls its tokens in ``usage``: read, and written where it writes."""


class Rate(Value):
    """US dollars per million tokens. Without ``cached_input``, cached tokens cost what others do. ``cache_write`` and
    ``cache_write_12h``: of input that is written to the cache, for 30 minutes and for twelve hours."""

    input: Usd
    cached_input: Usd | None = None
    cache_write: Usd | None = None
    cache_write_12h: Usd | None = None
    output: Usd = Decimal(0)

    def of(self, usage: Usage) -> Decimal | None:
        """US dollars. None where tokens were written whose price is not known."""
        written, long = usage.cache_write_tokens, usage.cache_write_12h_tokens
        if (written and self.cache_write is None) or (long and self.cache_write_12h is None):
            return None
        cached = self.input if self.cached_input is None else self.cached_input
        micros = (
            (usage.input_tokens - usage.cached_input_tokens - written - long) * self.input
            + usage.cached_input_tokens * cached
            + written * (self.cache_write or 0)
            + long * (self.cache_write_12h or 0)
            + usage.output_tokens * self.output
        )
        return micros.scaleb(-MILLION)

    def with_free_writes(self) -> Rate:
        """Return the rate of a model that writes its cache without a charge: written tokens cost what others do."""
        return self.model_copy(update={"cache_write": self.input, "cache_write_12h": self.input})


class LongContext(Value):
    """What a request costs, as a whole, once its input is longer than ``above_input_tokens``."""

    above_input_tokens: int
    lanes: dict[Lane, Rate]


class Period(Value):
    """A model's prices from one day on, until its next period begins. A lane that is absent is not offered."""

    starts: date = Field(alias="from")
    lanes: dict[Lane, Rate]
    long_context: LongContext | None = None

    def rate(self, lane: Lane, usage: Usage) -> Rate | None:
        """OpenAI's models before GPT-5.6 write their cache without a charge: none of their lanes has a price for it.
        Source: its guide to prompt caching."""
        long = self.long_context
        above = long is not None and usage.input_tokens > long.above_input_tokens
        rate = (long.lanes if long is not None and above else self.lanes).get(lane)
        wrote = usage.cache_write_tokens or usage.cache_write_12h_tokens
        return rate.with_free_writes() if rate is not None and wrote and not self._charges_writes else rate

    @property
    def _charges_writes(self) -> bool:
        return any(rate.cache_write is not None for rate in self.lanes.values())


class Source(Value):
    name: str
    url: str
    version: str


class PriceTable(Value):
    """Models and their periods, oldest first. ``generated_at`` is the day on which the sources were read.

    ``snapshots``: the dated names that there are, which cost what their model does, unless ``models`` has them too.
    ``shutdown_dates``: the day on which the provider shuts a model down, where one was announced by ``generated_at``.
    """

    generated_at: date
    sources: tuple[Source, ...]
    models: dict[str, tuple[Period, ...]]
    snapshots: tuple[str, ...] = ()
    shutdown_dates: dict[str, date] = Field(default_factory=dict)

    @classmethod
    def load(cls, data: bytes) -> PriceTable:
        """From the bytes of ``prices.json``. Raises pydantic's ValidationError."""
        return cls.model_validate_json(data)

    def cost(self, model: str, lane: Lane, usage: Usage, on: date) -> Decimal | None:
        """US dollars, unrounded. ``None``: no known price for this model, on this lane, on that day."""
        for period in reversed(self._periods(model)):
            if period.starts <= on:
                rate = period.rate(lane, usage)
                return None if rate is None else rate.of(usage)
        return None

    def knows(self, model: str) -> bool:
        return bool(self._periods(model))

    def shutdown_date(self, model: str) -> date | None:
        """Return the day on which the provider shuts ``model`` down. ``None``: no day was announced, or it is unknown.

        A snapshot without a day of its own ends with its family.
        """
        name = model.removeprefix(PREFIX)
        return self.shutdown_dates.get(name) or self.shutdown_dates.get(SNAPSHOT.sub("", name))

    def _periods(self, model: str) -> tuple[Period, ...]:
        """A snapshot with a price of its own has that one; any other that is known costs what its family does."""
        name = model.removeprefix(PREFIX)
        family = SNAPSHOT.sub("", name) if name in self.snapshots else name
        return self.models.get(name) or self.models.get(family) or ()


def usage_of(body: Any, endpoint: Endpoint) -> Usage:
    """The tokens that an answer's body reports. What is absent or is no count is zero; never raises."""
    usage = _object(body, "usage")
    read, written = _COUNTS[endpoint]
    tokens_in = _number(usage.get(read)) or 0
    details = _object(usage, f"{read}_details")
    cached = min(_number(details.get("cached_tokens")) or 0, tokens_in)
    kept = _object(details, "cache_write_tokens_details")
    long, short = (_number(kept.get(f"ttl_{kept_for}_tokens")) or 0 for kept_for in ("12h", "30m"))
    # How long they are kept is said by responses alone, and there not always.
    stored = min(tokens_in - cached, max(_number(details.get("cache_write_tokens")) or 0, long + short))
    long = min(long, stored)
    return Usage(
        input_tokens=tokens_in,
        cached_input_tokens=cached,
        cache_write_tokens=stored - long,
        cache_write_12h_tokens=long,
        output_tokens=0 if written is None else _number(usage.get(written)) or 0,
    )


def billed_lane(body: Any, asked: Lane) -> Lane:
    """The lane that is billed: what the answer says it was served on.

    Priority falls back to default under load, and says so; an answer that names no tier comes from a server that has
    none, which grants no discount. A word that is not known (``on_demand``, ``standard``) grants none either, and hides
    no surcharge. A batch is billed as a batch whatever its lines say.
    """
    tier = body.get("service_tier") if isinstance(body, dict) else None
    if asked is Lane.BATCH:
        return asked
    if not isinstance(tier, str):
        return Lane.DEFAULT
    return SERVICE_TIERS.get(tier.strip().lower(), Lane.DEFAULT if asked is Lane.FLEX else asked)


def reports_usage(body: Any, endpoint: Endpoint) -> bool:
    """Does the answer say what it used, in numbers? One that does not has no price: a cost of 0 would be a guess."""
    usage = _object(body, "usage")
    read, written = _COUNTS[endpoint]
    return _number(usage.get(read)) is not None and (written is None or _number(usage.get(written)) is not None)


def _object(value: Any, key: str) -> dict[str, Any]:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _number(value: Any) -> int | None:
    """A count of tokens as servers write it, 12, 12.0 or "12"; None for what is no count, or more than there can be."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(_MOST_TOKENS)):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None
