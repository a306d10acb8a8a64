"""What tokens cost, by model, lane, kind of token and day: from a dated table, in exact decimal arithmetic.

The table is data (``prices.json``, written by ``python -m lowtide_local.pricing``); docs/costs.md says where its
numbers come from. What is not in the table has no price: ``None``, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from .lanes import Lane
from .model import Usd, Value
from .records import Usage

SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
"""How the provider dates a model: ``gpt-5.4-mini-2026-03-17``."""

PREFIX = "openai/"
"""How routers spell the provider whose prices these are. Another provider's prefix is another provider's price."""

MILLION = 6
"""Prices are per 10^6 tokens."""


Price = Annotated[Usd, Field(ge=0, le=1_000_000)]


class Rate(Value):
    """US dollars per million tokens. Without ``cached_input``, cached tokens cost what others do. ``cache_write`` and
    ``cache_write_12h``: of input that is written to the cache, for 30 minutes and for twelve hours."""

    input: Price
    cached_input: Price | None = None
    cache_write: Price | None = None
    cache_write_12h: Price | None = None
    output: Price = Decimal(0)

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


class ToolFee(Value):
    """US dollars for a call of a hosted tool beside its tokens. ``not_for``: models whose calls cost something else."""

    usd: Price
    not_for: tuple[str, ...] = ()


class PriceTable(Value):
    """Models and their periods, oldest first. ``generated_at`` is the day on which the sources were read.

    ``snapshots``: the dated names that there are, which cost what their model does, unless ``models`` has them too.
    ``regional``: what each price is multiplied by where OpenAI processes a request in one region. ``aliases``: other
    names of a model. ``tool_fees``: by the type of the item that stands for a call in a response.
    ``shutdown_dates``: the day on which the provider shuts a model down, where one was announced by ``generated_at``;
    ``successors``: the models that replace these.
    """

    generated_at: date
    sources: tuple[Source, ...]
    models: dict[str, tuple[Period, ...]]
    snapshots: tuple[str, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    regional: dict[str, Price] = Field(default_factory=dict)
    tool_fees: dict[str, ToolFee] = Field(default_factory=dict)
    shutdown_dates: dict[str, date] = Field(default_factory=dict)
    successors: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def load(cls, data: bytes) -> PriceTable:
        """From the bytes of ``prices.json``. Raises pydantic's ValidationError."""
        return cls.model_validate_json(data)

    def cost(self, model: str, lane: Lane, usage: Usage, on: date, *, in_region: bool = False) -> Decimal | None:
        """US dollars, unrounded. ``None``: no known price for this model, on this lane, on that day."""
        for period in reversed(self._periods(model)):
            if period.starts <= on:
                rate = period.rate(lane, usage)
                cost = None if rate is None else rate.of(usage)
                times = self.regional.get(self.family(model), Decimal(1)) if in_region else Decimal(1)
                return None if cost is None else cost * times
        return None

    def knows(self, model: str) -> bool:
        return bool(self._periods(model))

    def family(self, model: str) -> str:
        """Return the model behind a snapshot, an alias or a router's spelling of it."""
        name = model.removeprefix(PREFIX)
        name = SNAPSHOT.sub("", name) if name in self.snapshots else name
        return self.aliases.get(name, name)

    def fees(self, model: str, calls: Mapping[str, int]) -> Decimal | None:
        """Return what calls of hosted tools cost, in US dollars. None: one of them has no known price."""
        total = Decimal(0)
        for kind, count in calls.items():
            fee = self.tool_fees.get(kind)
            if fee is None or self.family(model) in fee.not_for:
                return None
            total += count * fee.usd
        return total

    def has_own_price(self, model: str) -> bool:
        """Is it a snapshot that does not cost what its family does?"""
        name = model.removeprefix(PREFIX)
        return name in self.models and SNAPSHOT.search(name) is not None

    def shutdown_date(self, model: str) -> date | None:
        """Return the day on which the provider shuts ``model`` down. ``None``: no day was announced, or it is unknown.

        A snapshot without a day of its own ends with its family.
        """
        name = model.removeprefix(PREFIX)
        return self.shutdown_dates.get(name) or self.shutdown_dates.get(SNAPSHOT.sub("", name))

    def successor(self, model: str) -> str | None:
        """Return the model that replaces one that is shut down, or None."""
        name = model.removeprefix(PREFIX)
        return self.successors.get(name) or self.successors.get(SNAPSHOT.sub("", name))

    def _periods(self, model: str) -> tuple[Period, ...]:
        """A snapshot with a price of its own has that one; any other that is known costs what its family does."""
        name = model.removeprefix(PREFIX)
        family = SNAPSHOT.sub("", name) if name in self.snapshots else name
        return self.models.get(name) or self.models.get(family) or ()
