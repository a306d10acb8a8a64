"""What ships with the package: routes.toml and prices.json. And price tables that a deployment brings."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from lowtide.core.errors import ConfigError
from lowtide.core.prices import PriceTable
from lowtide.core.routes import Routes

MOST_TABLE_BYTES = 4_000_000
"""The shipped table has a hundredth of that."""


def routes_text() -> str:
    return files("lowtide").joinpath("routes.toml").read_text("utf-8")


def shipped_routes() -> Routes:
    return Routes.load(routes_text())


def shipped_prices() -> PriceTable:
    return PriceTable.load(files("lowtide").joinpath("prices.json").read_bytes())


def own_prices(path: str) -> PriceTable:
    """Return the price table in a file. Raises ConfigError where it cannot be read, or is no price table."""
    remedy = "give a file of the form of lowtide's prices.json"
    printed = "".join(character if character.isprintable() else "?" for character in path)
    try:
        file = Path(path)
        if not file.is_file() or file.stat().st_size > MOST_TABLE_BYTES:
            file.open("rb").close()  # says why it cannot be read, if so
            raise ConfigError(f"price table {printed}: no file of at most {MOST_TABLE_BYTES:,} bytes; {remedy}")
        table = PriceTable.load(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"price table {printed}: {error.strerror or error}; {remedy}") from None
    except ValidationError as error:  # before ValueError, which it is
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "it"
        raise ConfigError(f"price table {printed}: {place}: {first['msg']}; {remedy}") from None
    except ValueError as error:
        raise ConfigError(f"price table {printed}: {error}; {remedy}") from None
    if not table.models:
        raise ConfigError(f"price table {printed}: models: it prices none; {remedy}")
    return table
