"""What an answer is charged: on the lane, and for the model and tools, that it names itself."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from lowtide.adapters.shipped import shipped_prices, shipped_routes
from lowtide.core.charges import Seller, seller
from lowtide.core.lanes import Lane
from lowtide.core.task import Endpoint

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PRICES = shipped_prices()
OPENAI = Seller(PRICES)
OTHER = Seller(PRICES, openai=False)
LUNA = "gpt-6-luna"


def answer(**fields):
    return {"model": LUNA, "usage": {"prompt_tokens": 1_000, "completion_tokens": 300}, **fields}


def charge(body, asked=Lane.DEFAULT, sold_by=OPENAI, model=LUNA, endpoint=Endpoint.CHAT):
    return sold_by.charge(body, endpoint, model, asked, NOW)


def listed(lane=Lane.DEFAULT, model=LUNA):
    return charge(answer(model=model, service_tier=lane.value), lane, model=model).cost_usd


@pytest.mark.parametrize("asked", [Lane.DEFAULT, Lane.FLEX, Lane.PRIORITY])
@pytest.mark.parametrize(
    ("tier", "lane"),
    [
        ("default", Lane.DEFAULT),
        ("auto", Lane.DEFAULT),
        ("scale", Lane.DEFAULT),
        ("flex", Lane.FLEX),
        ("priority", Lane.PRIORITY),
        ("fast", Lane.PRIORITY),
        (" FAST\n", Lane.PRIORITY),
        ("", Lane.DEFAULT),
        (None, Lane.DEFAULT),
    ],
)
def test_a_tier_that_is_known_is_priced_whatever_was_asked(tier, lane, asked):
    found = charge(answer(service_tier=tier), asked)
    assert (found.lane, found.cost_usd, found.unpriced) == (lane, listed(lane), None)


@pytest.mark.parametrize("tier", ["standard", "on_demand", "turbo", "batch", "dedicated", "flex_2", "default!"])
@pytest.mark.parametrize("asked", [Lane.DEFAULT, Lane.FLEX, Lane.PRIORITY])
def test_a_tier_of_openai_that_is_not_known_has_no_price(tier, asked):
    found = charge(answer(service_tier=tier), asked)
    assert (found.cost_usd, found.unpriced) == (None, "unknown_tier")


@pytest.mark.parametrize(
    ("asked", "lane"), [(Lane.FLEX, Lane.DEFAULT), (Lane.DEFAULT, Lane.DEFAULT), (Lane.PRIORITY, Lane.PRIORITY)]
)
def test_elsewhere_a_tier_that_is_not_known_gives_no_discount_and_hides_no_surcharge(asked, lane):
    found = charge(answer(service_tier="on_demand"), asked, OTHER)
    assert (found.lane, found.cost_usd, found.unpriced) == (lane, listed(lane), None)


@pytest.mark.parametrize("sold_by", [OPENAI, OTHER])
@pytest.mark.parametrize("asked", [Lane.DEFAULT, Lane.FLEX, Lane.PRIORITY])
def test_ultrafast_is_no_priority(sold_by, asked):
    found = charge(answer(service_tier="ultrafast"), asked, sold_by)
    assert (found.lane, found.cost_usd, found.unpriced) == (Lane.PRIORITY, None, "no_lane_price")


@pytest.mark.parametrize("tier", ["default", "priority", "ultrafast", "whatever", None])
def test_a_line_of_a_batch_is_a_batch_whatever_tier_it_names(tier):
    found = charge(answer(service_tier=tier), Lane.BATCH)
    assert (found.lane, found.cost_usd, found.unpriced) == (Lane.BATCH, listed(Lane.BATCH), None)


@pytest.mark.parametrize(
    ("body", "model", "why"),
    [
        (answer(usage=None), LUNA, "no_usage"),
        (answer(usage={"prompt_tokens": 1_000, "completion_tokens": None}), LUNA, "no_usage"),
        (answer(service_tier="turbo", usage={}), LUNA, "no_usage"),
        (None, LUNA, "no_usage"),
        (answer(model="llama-4"), "llama-4", "no_model_price"),
        (answer(model="o1", service_tier="flex"), "o1", "no_lane_price"),
    ],
)
def test_a_charge_without_a_price_says_why(body, model, why):
    found = charge(body, Lane.FLEX, model=model)
    assert (found.cost_usd, found.unpriced) == (None, why)


@pytest.mark.parametrize(
    ("base_url", "openai"),
    [
        (None, True),
        ("https://api.openai.com/v1", True),
        ("https://API.OpenAI.com:443/v1", True),
        ("https://api.openai.com./v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://openai.com.evil.example/v1", False),
        ("https://notapi.openai.com/v1", False),
        ("https://api.openai.com.example/v1", False),
        ("https://acme.openai.azure.com/openai/v1", False),
        ("http://localhost:8000/v1", False),
        ("https://api.groq.com/openai/v1", False),
    ],
)
def test_openai_is_known_by_its_host(base_url, openai):
    spec = shipped_routes().provider("openai").model_copy(update={"base_url": base_url})
    assert seller(spec, PRICES).openai is openai


def test_a_price_is_exact():
    assert charge(answer(), Lane.DEFAULT).cost_usd == Decimal("0.0002") / 2 + Decimal("0.00015")


@pytest.mark.parametrize(
    ("asked", "named", "billed"),
    [
        # the pin: a model that is priced and is another one
        ("gpt-6.1-sol", "gpt-6-luna", "gpt-6-luna"),
        ("gpt-6-luna", "gpt-6.1-sol", "gpt-6.1-sol"),
        ("gpt-5", "gpt-5.1", "gpt-5.1"),
        ("gpt-6-luna", "openai/gpt-6.1-sol", "openai/gpt-6.1-sol"),
        # itself, its alias, its snapshot
        ("gpt-6-luna", "gpt-6-luna", "gpt-6-luna"),
        ("openai/gpt-6-luna", "gpt-6-luna", "openai/gpt-6-luna"),
        ("gpt-5.6", "gpt-5.6-sol", "gpt-5.6"),
        ("gpt-5.6-sol", "gpt-5.6", "gpt-5.6-sol"),
        ("gpt-5.4-mini", "gpt-5.4-mini-2026-03-17", "gpt-5.4-mini"),
        ("gpt-5.4-mini-2026-03-17", "gpt-5.4-mini", "gpt-5.4-mini-2026-03-17"),
        # a snapshot with a price of its own costs that price
        ("gpt-4o", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4o-2024-05-13", "gpt-4o", "gpt-4o-2024-05-13"),
        # what has no price names nothing
        ("gpt-6-luna", "gpt-6-luna-9999-99-99", "gpt-6-luna"),
        ("gpt-6-luna", "llama-4", "gpt-6-luna"),
        ("gpt-6-luna", "", "gpt-6-luna"),
        ("gpt-6-luna", None, "gpt-6-luna"),
        ("gpt-6-luna", ["gpt-6.1-sol"], "gpt-6-luna"),
        ("ft:gpt-4o:acme::1", "ft:gpt-4o:acme::1", "ft:gpt-4o:acme::1"),
    ],
)
def test_the_model_that_the_answer_names_is_billed_where_it_is_another_one(asked, named, billed):
    found = charge(answer(model=named), model=asked)
    assert found.model == billed
    if PRICES.knows(billed):
        assert found.cost_usd == OPENAI.price(billed, Lane.DEFAULT, found.usage, NOW)
        assert found.list_usd == found.cost_usd


@pytest.mark.parametrize(("names_models", "billed"), [(True, "gpt-6-luna"), (False, "my-deployment")])
def test_a_name_of_the_users_own_is_the_model_behind_it_where_the_providers_prices_say_so(names_models, billed):
    azure = Seller(PRICES, openai=False, names_models=names_models)
    found = charge(answer(model="gpt-6-luna"), sold_by=azure, model="my-deployment")
    assert (found.model, found.unpriced) == (billed, None if names_models else "no_model_price")


def test_a_batch_line_is_billed_for_the_model_that_it_names():
    found = charge(answer(model="gpt-6.1-sol"), Lane.BATCH)
    assert found.cost_usd == listed(Lane.BATCH, "gpt-6.1-sol")
