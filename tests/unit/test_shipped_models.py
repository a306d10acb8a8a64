"""The models that ship (profiles, examples, docs, demo, benchmarks) are ones that a user can still build on."""

from __future__ import annotations

import re
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from lowtide.adapters.shipped import shipped_prices, shipped_routes
from lowtide.core.prices import PriceTable
from lowtide_local.demo.day import MODELS
from lowtide_local.simulator.scenario import Scenario

ROOT = Path(__file__).parents[2]
TABLE = shipped_prices()
ROUTES = shipped_routes()
AHEAD = timedelta(days=180)
"""How long a model that ships must still be there, counted from the day on which the prices were read."""

SHIPPED = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "template.yaml", "samconfig.toml", "Makefile")
FOLDERS = ("docs", "bench", "functions", "lowtide_local", "infra")
OF_EVERY_MODEL = {
    "functions/lowtide/prices.json": "is the price table: models that ended stay in it for receipts of the past",
    "lowtide_local/pricing/catalogue.toml": "is what that table is made from",
    "functions/lowtide/core/image_tokens.py": "counts pictures for any model that a sender may still name",
    "docs/costs.md": "explains that table's figures, those of models that end included",
}
"""Files that name models because they have a price, and advise nobody to use one."""

CAPABILITY = re.compile(r'(?m)^"[^"]+" = \{.*\}$')
"""A row of [models] in routes.toml: what a model can be bought as, if somebody asks for it."""

FAMILIES = r"gpt-\d[\w.]*(?:-[\w.]+)*|o[134](?:-[a-z]+)*(?![\w])|text-embedding-[\w-]+"


def ends_soon(model: str, table: PriceTable = TABLE) -> bool:
    day = table.shutdown_date(model)
    return day is not None and day < table.generated_at + AHEAD


def named_in(text: str) -> set[str]:
    """Models of the table that a text names. A pattern (``gpt-5*``) names none."""
    found = {name.rstrip(".") for name in re.findall(rf"(?<![\w.-])(?>{FAMILIES})(?!\*)", text)}
    return {name for name in found if TABLE.knows(name)}


def shipped_files() -> list[Path]:
    under = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    texts = [path for path in [*(ROOT / name for name in SHIPPED), *under] if path.suffix not in (".pyc", ".css")]
    return [path for path in texts if str(path.relative_to(ROOT)) not in OF_EVERY_MODEL]


@pytest.mark.parametrize(
    ("model", "day"),
    [
        ("gpt-5", date(2026, 12, 11)),
        ("gpt-5-mini", date(2026, 12, 11)),
        ("gpt-5-nano", date(2026, 12, 11)),
        ("gpt-4o-mini", date(2027, 1, 14)),
        ("gpt-4o-mini-2024-07-18", date(2027, 1, 14)),
        ("openai/gpt-5-mini-2025-08-07", date(2026, 12, 11)),
    ],
)
def test_the_table_has_the_ends_that_the_provider_announced(model, day):
    assert TABLE.shutdown_date(model) == day
    assert ends_soon(model)


@pytest.mark.parametrize("model", ["gpt-6-luna", "gpt-6.1-terra", "gpt-6.1-sol"])
def test_the_named_successors_have_no_announced_end(model):
    assert TABLE.knows(model)
    assert TABLE.shutdown_date(model) is None


def test_no_profile_is_a_model_that_ends_soon():
    assert {name: model for name, model in ROUTES.profiles.items() if ends_soon(model)} == {}
    assert not ends_soon(ROUTES.named(ROUTES.auto.model))


def test_nothing_that_ships_names_a_model_that_ends_soon():
    ending = {}
    for path in shipped_files():
        text = path.read_text(encoding="utf-8")
        if path.name == "routes.toml":
            text = CAPABILITY.sub("", text)
        if soon := sorted(name for name in named_in(text) if ends_soon(name)):
            ending[str(path.relative_to(ROOT))] = soon
    assert ending == {}


def test_the_demo_asks_for_models_that_stay_and_have_a_price():
    assert {model for model in MODELS if ends_soon(model) or not TABLE.knows(model)} == set()


def test_the_simulated_provider_knows_every_profile_and_offers_nothing_without_a_price():
    offered = set(Scenario().models)
    assert offered >= {*ROUTES.profiles.values(), *MODELS}
    assert {model for model in offered if not TABLE.knows(model)} == set()


def test_a_name_is_found_wherever_a_text_has_it():
    text = 'MODEL = "gpt-5-mini"; openai/gpt-4o, (gpt-5). gpt-5-mini-2025-08-07; o3; `gpt-6-luna`'
    assert named_in(text) == {"gpt-5-mini", "gpt-4o", "gpt-5", "gpt-5-mini-2025-08-07", "o3", "gpt-6-luna"}
    assert named_in("o3x, gpt-4.1*, o1*, my-gpt-5") == set()


def test_the_files_that_may_name_ended_models_are_there():
    assert [name for name in OF_EVERY_MODEL if not (ROOT / name).is_file()] == []
    assert files("lowtide").joinpath("prices.json").is_file()
