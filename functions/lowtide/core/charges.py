"""What an answer is charged: the lane and the tokens that it names, at the prices of the provider that sold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from .lanes import ASKED_LANES, Lane
from .loopback import is_loopback
from .offpeak import OffPeak, discount
from .prices import PriceTable
from .records import Usage
from .reported_usage import reports_usage, tool_calls, usage_of
from .routes import NO_PRICES, OPENAI_PRICES, OwnPrices, ProviderSpec
from .task import Endpoint

SERVICE_TIERS = {**ASKED_LANES, "auto": Lane.DEFAULT}
"""Lanes by the ``service_tier`` of an answer. ``ultrafast`` is dearer than priority, and no lane of its own."""

NOTHING_PRICED = PriceTable(generated_at=date.min, sources=(), models={})
FRESH_FOR = timedelta(days=30)
"""OpenAI changed prices three times in four weeks of 2026."""
_UNPRICED_TIERS = frozenset({"ultrafast"})
_FINE_TUNED = "ft:"
_OPENAI_HOST = "api.openai.com"


class Unpriced(StrEnum):
    """Why a charge has no price."""

    FOREIGN_PROVIDER = "foreign_provider"
    """It is not known at what prices this provider sells."""
    NO_USAGE = "no_usage"
    UNKNOWN_TIER = "unknown_tier"
    NO_MODEL_PRICE = "no_model_price"
    TOOL_CALLS = "tool_calls"
    NO_LANE_PRICE = "no_lane_price"


@dataclass(frozen=True, slots=True)
class Charge:
    """``model`` is the one that was billed. ``cost_usd`` is None where ``unpriced`` says why. ``list_usd`` and
    ``batch_usd`` are what the same tokens and ``tool_calls`` cost on the default lane and in a batch."""

    model: str
    lane: Lane
    usage: Usage
    cost_usd: Decimal | None
    list_usd: Decimal | None
    batch_usd: Decimal | None
    tool_calls: Mapping[str, int]
    unpriced: Unpriced | None = None


@dataclass(frozen=True, slots=True)
class PriceSource:
    """Which price table, read on which day, was used. ``assumed``: it is OpenAI's, and the provider is not OpenAI."""

    table: str
    generated_at: date | None
    assumed: bool
    region: str | None = None

    def stale(self, on: date) -> bool:
        """Is the table so old on this day that prices may have changed since?"""
        return self.generated_at is not None and on - self.generated_at > FRESH_FOR

    def document(self, on: date) -> dict[str, Any]:
        """Return it as the receipt of this day has it."""
        day = None if self.generated_at is None else self.generated_at.isoformat()
        region = {} if self.region is None else {"region": self.region}
        return {
            "table": self.table,
            "generated_at": day,
            "assumed": self.assumed,
            "stale": self.stale(on),
            **region,
        }

    def told(self, on: date) -> str:
        """Say it in one line."""
        if self.generated_at is None:
            return "none known for this provider"
        assumed = ", though this provider is not OpenAI" if self.assumed else ""
        region = "" if self.region is None else f", in the region {self.region}"
        old = f"; older than {FRESH_FOR.days} days, bring lowtide up to date" if self.stale(on) else ""
        return f"{self.table}, of {self.generated_at.isoformat()}{region}{assumed}{old}"


@dataclass(frozen=True, slots=True)
class Seller:
    """A provider as the one that is paid. ``openai``: it is OpenAI itself, whose every service tier is known.
    ``names_models``: where an answer names a model of ``prices``, that is the one which is billed, whatever name it was
    asked by (a deployment of Azure's). ``region``: the one that OpenAI's host names, where requests are processed at a
    surcharge. ``table`` is the name of ``prices``; NO_PRICES where it is not known at what
    prices this provider sells."""

    prices: PriceTable
    off_peak: Sequence[OffPeak] = ()
    openai: bool = True
    names_models: bool = True
    table: str = OPENAI_PRICES
    region: str | None = None

    @property
    def source(self) -> PriceSource:
        """Where these prices come from."""
        known = self.table != NO_PRICES and bool(self.prices.models)
        return PriceSource(
            table=self.table,
            generated_at=self.prices.generated_at if known else None,
            assumed=self.table == OPENAI_PRICES and not self.openai,
            region=self.region if known else None,
        )

    def price(self, model: str, lane: Lane, usage: Usage, at: datetime) -> Decimal | None:
        """Return what ``usage`` costs that is ordered ``at``, in US dollars, off-peak discount included. None: it has
        no known price."""
        listed = self._price(model, lane, usage, at.date())
        return None if listed is None else listed * (1 - discount(self.off_peak, lane, at))

    def charge(self, body: Any, endpoint: Endpoint, model: str, asked: Lane, at: datetime) -> Charge:
        """Return what an answer costs that was ordered ``at``, from ``model`` on the lane ``asked``."""
        model = self.billed_model(body, model)
        usage, lane, day = usage_of(body, endpoint), billed_lane(body, asked), at.date()
        calls = tool_calls(body, endpoint)
        fees = self.prices.fees(model, calls)
        cost = _sum(self.price(model, lane, usage, at), fees)
        listed = _sum(self._price(model, Lane.DEFAULT, usage, day), fees)
        batched = _sum(self._price(model, Lane.BATCH, usage, day), fees)
        why = self._unpriced(body, endpoint, model, asked)
        if why is None and cost is None:
            why = Unpriced.TOOL_CALLS if fees is None else Unpriced.NO_LANE_PRICE
        if why is Unpriced.NO_USAGE:
            listed = batched = None
        return Charge(model, lane, usage, None if why else cost, listed, batched, calls, why)

    def billed_model(self, body: Any, asked: str) -> str:
        """Return the model that is billed: the one that the answer names, where that has a price and is neither the
        asked one nor another name of it. A snapshot with a price of its own is itself; a fine-tuned model is not its
        base."""
        named = body.get("model") if isinstance(body, dict) else None
        if not isinstance(named, str) or named == asked or not self.prices.knows(named):
            return asked
        if not self.prices.knows(asked):
            return named if self.names_models and not asked.startswith(_FINE_TUNED) else asked
        if self.prices.family(named) == self.prices.family(asked) and not self.prices.has_own_price(named):
            return asked
        return named

    def _price(self, model: str, lane: Lane, usage: Usage, on: date) -> Decimal | None:
        return self.prices.cost(model, lane, usage, on, in_region=self.region is not None)

    def _unpriced(self, body: Any, endpoint: Endpoint, model: str, asked: Lane) -> Unpriced | None:
        if not self.prices.models:
            return Unpriced.FOREIGN_PROVIDER
        if not reports_usage(body, endpoint):
            return Unpriced.NO_USAGE
        tier = None if asked is Lane.BATCH else _tier(body)
        if tier is not None and tier not in SERVICE_TIERS and self.openai:
            return Unpriced.UNKNOWN_TIER
        if not self.prices.knows(model):
            return Unpriced.NO_MODEL_PRICE
        return Unpriced.NO_LANE_PRICE if tier in _UNPRICED_TIERS else None


def seller(
    spec: ProviderSpec | None, shipped: PriceTable, own: Mapping[str, PriceTable] = MappingProxyType({})
) -> Seller:
    """Return the seller behind a provider of routes.toml. None: it is not there any more. ``own``: the deployment's
    price tables by their paths, as far as they could be read."""
    if spec is None:
        return Seller(NOTHING_PRICED, openai=False, names_models=False, table=NO_PRICES)
    host = _host(spec.base_url)
    openai = is_openai_host(host)
    match spec.prices:
        case OwnPrices(path=path):
            name, table = path, own.get(path, NOTHING_PRICED)
        case None if not openai and not is_loopback(host):
            name, table = NO_PRICES, NOTHING_PRICED
        case "none":
            name, table = NO_PRICES, NOTHING_PRICED
        case _:
            name, table = OPENAI_PRICES, shipped
    return Seller(
        table,
        spec.off_peak,
        openai=openai,
        names_models=openai or spec.prices is not None,
        table=name,
        region=host.removesuffix(_OPENAI_HOST).removesuffix(".") or None if openai else None,
    )


def _sum(tokens_usd: Decimal | None, fees_usd: Decimal | None) -> Decimal | None:
    return None if tokens_usd is None or fees_usd is None else tokens_usd + fees_usd


def is_openai_host(host: str) -> bool:
    """Is it OpenAI's own API, or one of its regions (``eu.api.openai.com``)?"""
    return host == _OPENAI_HOST or host.endswith(f".{_OPENAI_HOST}")


def billed_lane(body: Any, asked: Lane) -> Lane:
    """Return the lane that is billed: what the answer says it was served on.

    Priority falls back to default under load, and says so; an answer that names no tier comes from a server that has
    none, which grants no discount. A word that is not known (``on_demand``, ``standard``) grants none either, and hides
    no surcharge. A batch is billed as a batch whatever its lines say.
    """
    if asked is Lane.BATCH:
        return asked
    tier = _tier(body)
    if tier is None:
        return Lane.DEFAULT
    return SERVICE_TIERS.get(tier, Lane.DEFAULT if asked is Lane.FLEX else asked)


def _tier(body: Any) -> str | None:
    """Return the service tier that an answer names, or None."""
    tier = body.get("service_tier") if isinstance(body, dict) else None
    return (tier.strip().lower() or None) if isinstance(tier, str) else None


@lru_cache(maxsize=64)
def _host(base_url: str | None) -> str:
    """Return the host of a base URL; None is OpenAI's own."""
    return _OPENAI_HOST if base_url is None else (urlsplit(base_url).hostname or "").removesuffix(".")
