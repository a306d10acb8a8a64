"""Two public price tables, read into one shape: per model, the rate of each lane in each context."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from lowtide.core.lanes import Lane
from lowtide.core.prices import MILLION, SNAPSHOT, Rate, Source

LONG_ABOVE = 272_000
"""Input tokens. Above it, the models that have a long-context price charge it for the whole request."""


class Context(StrEnum):
    SHORT = "short"
    LONG = "long"


Quotes = dict[tuple[Lane, Context], Rate]
"""What one source says of one model."""

REGIONAL = "regional_processing_uplift_multiplier_"
LITELLM_LANES = {Lane.DEFAULT: "", Lane.BATCH: "_batches", Lane.FLEX: "_flex", Lane.PRIORITY: "_priority"}
LITELLM_CONTEXTS = {Context.SHORT: "", Context.LONG: "_above_272k_tokens"}
GENAI_LANES = {"flex": Lane.FLEX, "priority": Lane.PRIORITY, "batch": Lane.BATCH}


def from_litellm(path: Path, version: str) -> tuple[Source, dict[str, Quotes]]:
    """LiteLLM's ``model_prices_and_context_window.json``: dollars per token."""
    table: dict[str, dict[str, Any]] = json.loads(path.read_text(), parse_float=Decimal, parse_int=Decimal)
    source = Source(
        name="LiteLLM model_prices_and_context_window.json",
        url="https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json",
        version=version,
    )
    return source, {model: _litellm_quotes(entry) for model, entry in table.items()}


def shutdown_dates(path: Path) -> dict[str, date]:
    """Read from LiteLLM's table the day on which OpenAI shuts each of its models down, where it has announced one.

    Raises ValueError for a day that is none.
    """
    table: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return {
        name: date.fromisoformat(entry["deprecation_date"])
        for name, entry in table.items()
        if entry.get("litellm_provider") == "openai" and entry.get("deprecation_date")
    }


def successors(path: Path) -> dict[str, str]:
    """Read from LiteLLM's table which model replaces one of OpenAI's that is shut down."""
    table: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return {
        name: entry["successor_model"]
        for name, entry in table.items()
        if entry.get("litellm_provider") == "openai" and entry.get("successor_model")
    }


def regional(path: Path) -> dict[str, Decimal]:
    """Read from LiteLLM's table what processing in one region multiplies the prices of OpenAI's models by.

    Raises ValueError where regions differ: the price table has one number for all.
    """
    table: dict[str, dict[str, Any]] = json.loads(path.read_text(), parse_float=Decimal, parse_int=Decimal)
    found: dict[str, Decimal] = {}
    for name, entry in table.items():
        if entry.get("litellm_provider") == "openai":
            times = {value for key, value in entry.items() if key.startswith(REGIONAL)}
            if len(times) > 1:
                raise ValueError(f"{name}: regions differ in price, and the table has one number for all")
            if times:
                found[name] = times.pop()
    return found


def snapshots(path: Path) -> list[str]:
    """Read from LiteLLM's table the dated names of OpenAI's models: ``gpt-5.4-mini-2026-03-17``."""
    table: dict[str, dict[str, Any]] = json.loads(path.read_text())
    dated = (name for name, entry in table.items() if entry.get("litellm_provider") == "openai")
    return sorted(name for name in dated if SNAPSHOT.search(name))


def _litellm_quotes(entry: Mapping[str, Any]) -> Quotes:
    quotes: Quotes = {}
    for context, above in LITELLM_CONTEXTS.items():
        for lane, suffix in LITELLM_LANES.items():
            tail = above + suffix
            paid = entry.get(f"input_cost_per_token{tail}")
            if paid is not None:
                quotes[lane, context] = _rate(
                    paid.scaleb(MILLION),
                    _scaled(entry.get(f"cache_read_input_token_cost{tail}")),
                    _scaled(entry.get(f"output_cost_per_token{tail}")),
                    _scaled(entry.get(f"cache_creation_input_token_cost{tail}")),
                    _scaled(entry.get(f"cache_creation_input_token_cost_above_12hr{tail}")),
                )
    return quotes


def from_genai() -> tuple[Source, dict[str, Quotes]]:
    """The installed ``genai-prices`` package's OpenAI models: dollars per million tokens.

    A model's service tiers and batch prices are its ``price_variants``; of a list of dated prices the last one is
    now's. Raises ModuleNotFoundError where the package is not installed.
    """
    providers = import_module("genai_prices.data").providers
    openai = next(provider for provider in providers if provider.id == "openai")
    source = Source(
        name="genai-prices",
        url="https://github.com/pydantic/genai-prices",
        version=metadata.version("genai-prices"),
    )
    return source, {model.id: _genai_quotes(model) for model in openai.models}


def _genai_quotes(model: Any) -> Quotes:
    listed = {Lane.DEFAULT: model.prices}
    for variant in model.price_variants or ():
        lane = GENAI_LANES.get(variant.when.get("service_tier") or variant.when.get("processing"))
        if lane is not None:
            listed[lane] = variant.prices
    quotes: Quotes = {}
    for lane, prices in listed.items():
        now = prices[-1].prices if isinstance(prices, list) else prices
        for context in Context:
            paid = _genai_price(now.input_mtok, context)
            if paid is not None:
                kinds = (now.cache_read_mtok, now.output_mtok, now.cache_write_mtok)
                quotes[lane, context] = _rate(paid, *(_genai_price(kind, context) for kind in kinds))
    return quotes


def _genai_price(price: Any, context: Context) -> Decimal | None:
    """A plain price, or one with a base and tiers by input tokens."""
    match context:
        case Context.SHORT:
            amount = getattr(price, "base", price)
        case Context.LONG:
            amount = next((tier.price for tier in getattr(price, "tiers", ()) if tier.start == LONG_ABOVE), None)
    return None if amount is None else Decimal(amount)


def _scaled(per_token: Decimal | None) -> Decimal | None:
    return None if per_token is None else per_token.scaleb(MILLION)


def _rate(
    paid: Decimal,
    cached: Decimal | None,
    output: Decimal | None,
    written: Decimal | None,
    written_12h: Decimal | None = None,
) -> Rate:
    return Rate(
        input=paid,
        cached_input=cached,
        cache_write=written,
        cache_write_12h=written_12h,
        output=output or Decimal(0),
    )
