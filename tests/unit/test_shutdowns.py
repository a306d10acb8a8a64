"""Models that are shut down soon: who says so, how long before, and what their replacement costs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from lowtide.adapters.shipped import routes_text, shipped_prices, shipped_routes
from lowtide.core.acceptance import accept
from lowtide.core.charges import Seller
from lowtide.core.prices import PriceTable
from lowtide.core.routes import Routes
from lowtide.core.shutdowns import WARNED_AHEAD, shutdown
from lowtide_local.cli.config import warnings
from lowtide_local.operate.estimate import Estimate

PRICES = shipped_prices()
TODAY = date(2026, 12, 1)
END = date(2026, 12, 11)
REPLACED = "gpt-6.1-terra replaces it at 2.94 times its price"
ELSEWHERE = 'base_url = "https://llm.example/v1"\nprices = "none"\n'


@pytest.mark.parametrize(
    ("model", "day", "successor", "times"),
    [
        # what a forced migration costs, at 1,000 tokens in and 300 out
        ("gpt-5-nano", END, "gpt-6-luna", "1.47"),
        ("gpt-5-mini", END, "gpt-6.1-terra", "2.94"),
        ("gpt-5", END, "gpt-6.1-sol", "1.18"),
        ("gpt-4o-mini", date(2027, 1, 14), "gpt-6-luna", "0.76"),
        ("gpt-4o-mini-2024-07-18", date(2027, 1, 14), "gpt-6-luna", "0.76"),
        ("openai/gpt-5-mini-2025-08-07", END, "gpt-6.1-terra", "2.94"),
        ("gpt-4.1-nano", date(2026, 10, 23), "gpt-5.6-luna", None),
    ],
)
def test_a_model_that_ends_soon_is_told_with_its_replacement_and_what_that_costs(model, day, successor, times):
    found = shutdown(PRICES, model, TODAY)
    assert (found.model, found.on, found.successor) == (model, day, successor)
    if times is not None:
        assert found.times == Decimal(times)


@pytest.mark.parametrize("model", ["gpt-6-luna", "gpt-6.1-terra", "gpt-6.1-sol", "gpt-5.1", "llama-4", ""])
def test_a_model_that_stays_or_ends_later_or_is_not_known_is_not_told(model):
    assert shutdown(PRICES, model, TODAY) is None


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (WARNED_AHEAD.days + 1, None),
        (
            WARNED_AHEAD.days,
            "gpt-5-mini shuts down on 2026-12-11, in 90 days; gpt-6.1-terra replaces it at 2.94 times its price",
        ),
        (1, f"gpt-5-mini shuts down on 2026-12-11, tomorrow; {REPLACED}"),
        (0, f"gpt-5-mini shuts down on 2026-12-11, today; {REPLACED}"),
        (-1, f"gpt-5-mini was shut down on 2026-12-11; {REPLACED}"),
    ],
)
def test_it_is_told_from_ninety_days_before(days, told):
    today = END - timedelta(days=days)
    prices = PRICES.model_copy(update={"models": {name: periods[-1:] for name, periods in PRICES.models.items()}})
    found = shutdown(_always(prices), "gpt-5-mini", today)
    assert (None if found is None else found.told(today)) == told


def _always(prices: PriceTable) -> PriceTable:
    """The last prices, as if they had held since the beginning."""
    first = {"starts": date(2020, 1, 1)}
    models = {name: tuple(each.model_copy(update=first) for each in periods) for name, periods in prices.models.items()}
    return prices.model_copy(update={"models": models})


@pytest.mark.parametrize(
    ("successors", "models", "said"),
    [
        ({}, None, "name another model"),
        ({"gpt-5-mini": "gpt-7"}, None, "gpt-7 replaces it"),
    ],
)
def test_a_replacement_that_is_not_known_or_has_no_price_is_told_as_far_as_it_is(successors, models, said):
    prices = PRICES.model_copy(update={"successors": successors})
    assert shutdown(prices, "gpt-5-mini", TODAY).told(TODAY).endswith(f"; {said}")


def test_every_model_that_ends_has_a_replacement_with_a_price_that_stays():
    for model in PRICES.shutdown_dates:
        if PRICES.knows(model):
            successor = PRICES.successor(model)
            assert successor is not None, model
            assert PRICES.knows(successor), model
            assert PRICES.shutdown_date(successor) is None, model


def with_lines(*pairs: tuple[str, str]) -> Routes:
    text = routes_text()
    for before, after in pairs:
        assert before in text
        text = text.replace(before, after, 1)
    return Routes.load(text)


def test_the_shipped_routes_choose_nothing_that_ends():
    assert warnings(shipped_routes(), PRICES, TODAY) == []


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ('standard = "gpt-6.1-terra"', 'standard = "gpt-5-mini"', "profiles.standard"),
        ('model = "simple"      #', 'model = "gpt-5-mini" #', "auto.model"),
        ('"HIGH", model = "standard"', '"HIGH", model = "gpt-5-mini"', "types.email_draft.model"),
        ('"gpt-4o" = { ', '"gpt-4o" = { fallback = "gpt-5-mini", ', "models.gpt-4o.fallback"),
        ("[limits]\n", '[limits]\nmodels = ["gpt-5-mini"]\n', "limits.models (gpt-5-mini)"),
    ],
)
def test_config_check_warns_wherever_routes_name_a_model_that_ends(before, after, place):
    routes = with_lines((before, after))
    [warning] = warnings(routes, PRICES, TODAY)
    assert warning.startswith(f"{place}: gpt-5-mini shuts down on 2026-12-11, in 10 days; gpt-6.1-terra replaces it")
    assert warnings(routes, PRICES, END - WARNED_AHEAD - timedelta(days=1)) == []


def test_a_model_of_that_name_at_another_provider_does_not_end():
    ours = ('standard = "gpt-6.1-terra"', 'standard = "gpt-5-mini"')
    elsewhere = ("[providers.openai]\n", f"[providers.openai]\n{ELSEWHERE}")
    assert warnings(with_lines(ours, elsewhere), PRICES, TODAY) == []


def draft(task_id: str, model: str) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "?"}]}
    return {"task_id": task_id, "type": "email_draft", "request": {"url": "/v1/chat/completions", "body": body}}


def test_an_estimate_warns_of_the_models_of_its_tasks_once_each():
    now, routes = datetime(2026, 12, 1, 8, tzinfo=UTC), shipped_routes()
    models = ["gpt-5-mini", "gpt-6-luna", "gpt-5-mini", "gpt-5-nano"]
    tasks = [
        accept(draft(f"t{n}", model), origin=f"o/{n}", sent_at=now, routes=routes) for n, model in enumerate(models)
    ]
    estimate = Estimate()
    estimate.add(tasks, routes, lambda _: Seller(PRICES), now)
    assert [each.split()[0] for each in estimate.document()["warnings"]] == ["gpt-5-mini", "gpt-5-nano"]
