"""From the sources and the catalogue to the table: agree or refuse, then apply the provider's own rules."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from lowtide.core.errors import LowtideError
from lowtide.core.lanes import Lane
from lowtide.core.prices import SNAPSHOT, LongContext, Period, PriceTable, Rate, Source, ToolFee

from .sources import LONG_ABOVE, Context, Quotes

HALF = Decimal("0.5")
"""Batch and flex are half of list (the provider's pricing page)."""

LONG_INPUT = Decimal(2)
LONG_OUTPUT = Decimal("1.5")
"""Past LONG_ABOVE input tokens (the provider's model pages)."""

WRITE, WRITE_12H = Decimal("1.25"), Decimal("2.5")
"""Times the input, for what is written to the cache for 30 minutes and for 12 hours (the guide to prompt caching)."""

HALVED = (Lane.BATCH, Lane.FLEX)


class UnsettledPricesError(LowtideError):
    """The sources do not agree, or do not know a model of the catalogue: one line for each."""


def catalogue() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("catalogue.toml").read_text())


def build(
    listed: Mapping[str, Any],
    sources: Iterable[tuple[Source, Mapping[str, Quotes]]],
    on: date,
    ends: Mapping[str, date] = MappingProxyType({}),
    dated: Iterable[str] = (),
    regional: Mapping[str, Decimal] = MappingProxyType({}),
    successors: Mapping[str, str] = MappingProxyType({}),
) -> tuple[PriceTable, list[str]]:
    """The table, and a line for each price that rests on one source or on a rule alone.

    ``ends``: the days on which models are shut down, of which the catalogue's models and their snapshots are kept.
    ``dated``: names of snapshots, of which likewise. ``regional`` and
    ``successors``: by model; the catalogue's successor comes first. Raises UnsettledPricesError.
    """
    read = list(sources)
    notes: list[str] = []
    faults: list[str] = []
    models: dict[str, tuple[Period, ...]] = {}
    for model, entry in listed["models"].items():
        if "alias_of" in entry:
            models[model] = models[entry["alias_of"]]
            continue
        quotes = _agreed(model, {source.name: tables.get(model, {}) for source, tables in read}, notes, faults)
        if (Lane.DEFAULT, Context.SHORT) not in quotes:
            faults.append(f"{model}: no source has a list price; take it out of catalogue.toml")
            continue
        _fill(model, quotes, [Lane(lane) for lane in entry.get("half_of_list", ())], notes)
        writes = quotes[Lane.DEFAULT, Context.SHORT].cache_write is not None
        before = [_earlier(row, charges_writes=writes) for row in listed["earlier"] if row["model"] == model]
        models[model] = (*before, _period(entry["from"], quotes))
    if faults:
        raise UnsettledPricesError("\n".join(faults))
    table = PriceTable(
        generated_at=on,
        sources=tuple(source for source, _ in read),
        models=models,
        snapshots=tuple(name for name in dated if SNAPSHOT.sub("", name) in models),
        aliases={name: entry["alias_of"] for name, entry in listed["models"].items() if "alias_of" in entry},
        regional={name: times for name, times in regional.items() if name in models and times != 1},
        tool_fees={kind: ToolFee.model_validate(fee) for kind, fee in listed.get("tool_fees", {}).items()},
        shutdown_dates=_ends(listed["models"], ends),
        successors=_successors(listed["models"], ends, successors),
    )
    return table, notes


def _ends(listed: Mapping[str, Any], ends: Mapping[str, date]) -> dict[str, date]:
    """An alias ends on its own day or, without one, on that of the model behind it."""
    kept = {name: day for name, day in ends.items() if name in listed or SNAPSHOT.sub("", name) in listed}
    behind = {name: entry["alias_of"] for name, entry in listed.items() if "alias_of" in entry}
    return {name: ends[model] for name, model in behind.items() if model in ends} | dict(sorted(kept.items()))


def _successors(listed: Mapping[str, Any], ends: Mapping[str, date], named: Mapping[str, str]) -> dict[str, str]:
    """Return the successors of the catalogue's models that end: the catalogue's own or, without one, the source's."""
    found = {name: str(entry.get("successor") or named.get(name)) for name, entry in listed.items() if name in ends}
    return {name: successor for name, successor in found.items() if successor in listed}


def _agreed(model: str, said: Mapping[str, Quotes], notes: list[str], faults: list[str]) -> Quotes:
    agreed: Quotes = {}
    for lane in Lane:
        for context in Context:
            rates = _writes_shared(
                {name: quotes[lane, context] for name, quotes in said.items() if (lane, context) in quotes}
            )
            where = f"{model} {lane} {context}"
            if len(set(rates.values())) > 1:
                faults.append(f"{where}: " + " but ".join(f"{name} has {rate!r}" for name, rate in rates.items()))
            elif rates:
                agreed[lane, context] = next(iter(rates.values()))
                if len(rates) < len(said):
                    notes.append(f"{where}: {' and '.join(rates)} alone")
    return agreed


def _writes_shared(rates: dict[str, Rate]) -> dict[str, Rate]:
    """Give each source the prices of cache writes that the others have: genai-prices has none for twelve hours."""
    shared = dict(rates)
    for kind in ("cache_write", "cache_write_12h"):
        known = [price for rate in rates.values() if (price := getattr(rate, kind)) is not None]
        if known:
            shared = {
                name: rate if getattr(rate, kind) is not None else rate.model_copy(update={kind: known[0]})
                for name, rate in shared.items()
            }
    return shared


def _fill(model: str, quotes: Quotes, half_of_list: Iterable[Lane], notes: list[str]) -> None:
    """Half of list where the catalogue says so, and where a halved lane's long-context row is missing."""
    wanted = [(lane, Context.SHORT) for lane in half_of_list]
    if (Lane.DEFAULT, Context.LONG) in quotes:
        wanted += [(lane, Context.LONG) for lane in HALVED if (lane, Context.SHORT) in quotes]
    for lane, context in wanted:
        if (lane, context) not in quotes:
            quotes[lane, context] = _times(quotes[Lane.DEFAULT, context], HALF, HALF)
            notes.append(f"{model} {lane} {context}: half of list, by rule")


def _earlier(row: Mapping[str, Any], *, charges_writes: bool) -> Period:
    listed = Rate(input=Decimal(row["input"]), cached_input=Decimal(row["cached_input"]), output=Decimal(row["output"]))
    if charges_writes:
        written = {"cache_write": listed.input * WRITE, "cache_write_12h": listed.input * WRITE_12H}
        listed = listed.model_copy(update=written)
    quotes: Quotes = {}
    for context, rate in ((Context.SHORT, listed), (Context.LONG, _times(listed, LONG_INPUT, LONG_OUTPUT))):
        quotes[Lane.DEFAULT, context] = rate
        quotes |= {(lane, context): _times(rate, HALF, HALF) for lane in HALVED}
    return _period(row["from"], quotes)


def _times(rate: Rate, inward: Decimal, outward: Decimal) -> Rate:
    kinds = ("cached_input", "cache_write", "cache_write_12h")
    times = {kind: price * inward for kind in kinds if (price := getattr(rate, kind)) is not None}
    return Rate(input=rate.input * inward, output=rate.output * outward, **times)


def _period(starts: date, quotes: Quotes) -> Period:
    lanes = {context: {lane: rate for (lane, where), rate in quotes.items() if where is context} for context in Context}
    long = LongContext(above_input_tokens=LONG_ABOVE, lanes=lanes[Context.LONG]) if lanes[Context.LONG] else None
    return Period.model_validate({"from": starts, "lanes": lanes[Context.SHORT], "long_context": long})
