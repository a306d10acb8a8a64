"""``lowtide config check``: what a deployment's own routes change, and what is wrong with them. Asks no network."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from lowtide.adapters.clock import WallClock
from lowtide.adapters.shipped import routes_text, shipped_prices
from lowtide.core.charges import NOTHING_PRICED, Seller, seller
from lowtide.core.errors import ConfigError
from lowtide.core.overlays import Change, LineFault, Overlay, read_overlay
from lowtide.core.prices import PriceTable
from lowtide.core.routes import AUTO, NO_PRICES, OPENAI_PRICES, Routes
from lowtide.core.shutdowns import shutdown
from lowtide.core.toml_lines import MOST_CHARACTERS
from lowtide.core.wording import path

from .showing import console, print_json
from .stop import ExitCode, Stop, usage

STANDARD_BYTES, ADVANCED_BYTES = 4_096, 8_192
"""What an SSM parameter holds, standard and advanced (AWS Systems Manager User Guide, Managing parameter tiers)."""
_MOST_BYTES = 4 * MOST_CHARACTERS + 1
_SHOWN_CHARACTERS = 60
_LINE = re.compile(r"\bline (\d+)")


def config_check_command(file: Path, *, as_json: bool) -> ExitCode:
    text = _text(file)
    try:
        read = read_overlay(routes_text(), text)
    except ConfigError as error:
        told = str(error).removeprefix("routes.toml: ").removeprefix("routes.toml ")
        line = _LINE.search(told)
        fault = LineFault(int(line[1]) if line else 1, re.sub(r"^line \d+: ", "", told))
        read = Overlay(None, (fault,))
    if as_json:
        print_json(_document(read, text))
    else:
        _show(read, text, console())
    if read.routes is None:
        first = read.faults[0]
        others = f" ({len(read.faults) - 1} more above)" if len(read.faults) > 1 and not as_json else ""
        raise Stop(f"{_named(file)}: line {first.line}: {first.problem}{others}")
    return ExitCode.DONE


def _named(file: Path) -> str:
    return "standard input" if str(file) == "-" else str(file)


def _text(file: Path) -> str:
    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(_MOST_BYTES)
        else:
            with file.open("rb") as opened:
                content = opened.read(_MOST_BYTES)
    except OSError as error:
        raise usage(
            f"{_named(file)}: {error.strerror or error}; give a file of routes, or - for standard input"
        ) from None
    if not content.strip():
        raise usage(f"{_named(file)}: it is empty; give a file of routes, with only what differs from the shipped ones")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise usage(f"{_named(file)}: line {line}: no UTF-8; save it as UTF-8") from None


def _document(read: Overlay, text: str) -> dict[str, Any]:
    return {
        "good": read.routes is not None,
        "version": None if read.routes is None else read.routes.version,
        "changes": [
            {"line": each.line, "setting": path(each.steps), "shipped": _plain(each.before), "here": _plain(each.after)}
            for each in read.changes
        ],
        "faults": [{"line": fault.line, "message": fault.problem} for fault in read.faults],
        "without_effect": [{"line": each.line, "message": each.problem} for each in read.without_effect],
        "warnings": [] if read.routes is None else warnings(read.routes, shipped_prices(), _today()),
        "bytes": len(text.encode()),
        "fits": _fits(text),
    }


def _show(read: Overlay, text: str, out: Console) -> None:
    def say(line: str) -> None:
        out.print(line, markup=False, soft_wrap=True)

    if read.changes:
        say("changes of the shipped routes:")
    for each in sorted(read.changes, key=lambda change: change.line):
        say(f"  line {each.line}: {path(each.steps)}: {_told(each)}")
    for absent in read.without_effect:
        say(f"  line {absent.line}: {absent.problem}: it removes nothing")
    if len(read.faults) > 1:
        say("what is wrong:")
        for fault in read.faults:
            say(f"  line {fault.line}: {fault.problem}")
    if read.routes is not None:
        count = f"{len(read.changes)} changes" if len(read.changes) > 1 else "1 change"
        say(f"good: {count if read.changes else 'nothing changes'}, version {read.routes.version}")
        for warning in warnings(read.routes, shipped_prices(), _today()):
            say(f"warning: {warning}")
        say(f"{len(text.encode())} bytes: fits {_PLACES[_fits(text)]}")


def warnings(routes: Routes, prices: PriceTable, today: date) -> list[str]:
    """Return what is no fault of the file, and costs money or hides what it costs."""
    return [*_without_prices(routes), *_shutdowns(routes, prices, today), *_stale(prices, today)]


def _stale(prices: PriceTable, today: date) -> Iterator[str]:
    source = Seller(prices).source
    if source.stale(today):
        yield f"prices: {source.told(today)}"


def _today() -> date:
    return WallClock().now().date()


def _shutdowns(routes: Routes, prices: PriceTable, today: date) -> Iterator[str]:
    """Models that the routes choose by themselves, or allow. What [models] says of one is only asked where a task names
    it."""
    named = {f"profiles.{profile}": routes.named(profile) for profile in routes.profiles}
    named |= {"auto.model": routes.named(routes.auto.model)} if routes.auto.model not in routes.profiles else {}
    for kind, spec in routes.types.items():
        if spec.model is not None and spec.model != AUTO and spec.model not in routes.profiles:
            named[f"types.{kind}.model"] = spec.model
    named |= {f"models.{name}.fallback": spec.fallback for name, spec in routes.models.items() if spec.fallback}
    named |= {f"limits.models ({name})": name for name in sorted(routes.limits.models or ())}
    for place, model in named.items():
        sold_by = seller(routes.providers[routes.model(model).provider], prices)
        if sold_by.table == OPENAI_PRICES and (ends := shutdown(prices, model, today)) is not None:
            yield f"{place}: {ends.told(today)}"


def _without_prices(routes: Routes) -> Iterator[str]:
    for name, spec in routes.providers.items():
        if spec.prices is None and seller(spec, NOTHING_PRICED).source.table == NO_PRICES:
            yield (
                f"providers.{name} has no prices: nothing that it answers is priced, and nothing saved. "
                f'Where it bills as OpenAI does, give prices = "{OPENAI_PRICES}"; where not, '
                f'prices = {{ path = "prices.json" }}; prices = "{NO_PRICES}" says that this is meant'
            )


_PLACES = {
    "standard": "a standard SSM parameter",
    "advanced": "an advanced SSM parameter (--tier Advanced)",
    "object": "an object under s3://BUCKET/routes/, which the parameter names",
}


def _fits(text: str) -> str:
    """Where a deployment can keep it. An SSM parameter takes no double braces, which it keeps for references."""
    size = len(text.encode())
    if size > ADVANCED_BYTES or "{{" in text:
        return "object"
    return "standard" if size <= STANDARD_BYTES else "advanced"


def _told(change: Change) -> str:
    """What was and what comes; of a list what goes and what comes, because what is not repeated is gone."""
    before, after = change.before, change.after
    if after is None:
        return f"removed (was {_short(before)})"
    if before is None:
        return f"added, {_short(after)}"
    if isinstance(before, list) and isinstance(after, list):
        gone = [each for each in before if each not in after]
        come = [each for each in after if each not in before]
        told = [f"{word} {_json(each)}" for word, each in (("no longer", gone), ("now also", come)) if each]
        if told:
            return ", ".join(told)
    return f"{_short(before)} becomes {_short(after)}"


def _short(value: Any) -> str:
    text = _json(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _json(value: Any) -> str:
    return orjson.dumps(_plain(value)).decode()


def _plain(value: Any) -> Any:
    """As JSON: TOML has dates, times, and numbers that JSON lacks."""
    return orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_PASSTHROUGH_DATETIME))
