"""What ships with the package: routes.toml and prices.json."""

from __future__ import annotations

from importlib.resources import files

from lowtide.core.prices import PriceTable
from lowtide.core.routes import Routes


def routes_text() -> str:
    return files("lowtide").joinpath("routes.toml").read_text("utf-8")


def shipped_routes() -> Routes:
    return Routes.load(routes_text())


def shipped_prices() -> PriceTable:
    return PriceTable.load(files("lowtide").joinpath("prices.json").read_bytes())
