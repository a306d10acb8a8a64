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


def responded(*items, tools=None, model="gpt-4o"):
    usage = {"input_tokens": 1_000, "output_tokens": 100}
    return {"model": model, "usage": usage, "output": [*items, {"type": "message"}], "tools": tools or []}


def called(kind, **fields):
    return {"type": kind, "status": "completed", **fields}


SEARCH = called("web_search_call", action={"type": "search", "query": "tides"})
TOKENS = Decimal("0.0035")


def tooled(body, asked=Lane.DEFAULT, model="gpt-4o"):
    return charge(body, asked, model=model, endpoint=Endpoint.RESPONSES)


@pytest.mark.parametrize(
    ("items", "fees"),
    [
        # the pin: two searches at $10 a thousand
        ([SEARCH, SEARCH], "0.02"),
        ([called("web_search_call")], "0.01"),
        ([called("file_search_call", queries=["a", "b"])], "0.0025"),
        ([SEARCH, called("file_search_call"), called("function_call")], "0.0125"),
        ([called("web_search_call", action={"type": "open_page", "url": "https://a.example"})], "0"),
        ([SEARCH, called("web_search_call", action={"type": "find_in_page"})], "0.01"),
        ([called(kind) for kind in ("function_call", "custom_tool_call", "mcp_call", "computer_call")], "0"),
        ([called("shell_call", environment={"type": "local"}), called("local_shell_call")], "0"),
        ([None, "web_search_call", {"type": None}, {"type": ["web_search_call"]}], "0"),
    ],
)
def test_calls_of_hosted_tools_cost_their_fee_beside_the_tokens(items, fees):
    found = tooled(responded(*items))
    assert (found.cost_usd, found.list_usd, found.unpriced) == (TOKENS + Decimal(fees),) * 2 + (None,)


def test_a_batch_halves_the_tokens_and_not_the_fees():
    found = tooled(responded(SEARCH, SEARCH), Lane.BATCH)
    assert (found.cost_usd, found.list_usd) == (TOKENS / 2 + Decimal("0.02"), Decimal("0.0235"))
    assert found.tool_calls == {"web_search_call": 2}


@pytest.mark.parametrize(
    ("items", "tools", "model"),
    [
        ([called("code_interpreter_call")], None, "gpt-4o"),
        ([SEARCH, called("code_interpreter_call")], None, "gpt-4o"),
        ([called("image_generation_call")], None, "gpt-4o"),
        ([called("shell_call", environment={"type": "container_reference"})], None, "gpt-4o"),
        ([called("never_heard_of_call")], None, "gpt-4o"),
        ([SEARCH], [{"type": "web_search_preview"}], "gpt-4o"),
        ([SEARCH], [{"type": "web_search_preview_2025_03_11"}, {"type": "function"}], "gpt-4o"),
        ([SEARCH], None, "gpt-4.1-mini"),
        ([SEARCH], None, "gpt-4o-mini-2024-07-18"),
    ],
)
@pytest.mark.parametrize("asked", [Lane.DEFAULT, Lane.BATCH])
def test_a_call_whose_fee_is_not_known_leaves_the_answer_without_a_price(items, tools, model, asked):
    found = tooled(responded(*items, tools=tools, model=model), asked, model)
    assert (found.cost_usd, found.list_usd, found.unpriced) == (None, None, "tool_calls")


def test_the_search_tool_itself_beside_its_preview_is_the_one_that_is_priced():
    found = tooled(responded(SEARCH, tools=[{"type": "web_search"}, {"type": "web_search_preview"}, None, "tool"]))
    assert found.cost_usd == TOKENS + Decimal("0.01")


@pytest.mark.parametrize("body", [None, {"output": "web_search_call"}, {"output": [SEARCH]}])
def test_an_answer_that_cannot_be_read_has_no_price_whatever_it_called(body):
    assert tooled(body).unpriced == "no_usage"


def test_a_chat_has_no_such_calls():
    assert charge(answer(output=[SEARCH])).cost_usd == listed()


def test_a_fine_tuned_model_is_not_its_base():
    found = charge(answer(model="gpt-4o-mini"), model="ft:gpt-4o-mini:acme::1")
    assert (found.model, found.unpriced) == ("ft:gpt-4o-mini:acme::1", "no_model_price")


def test_the_kinds_of_calls_that_a_record_keeps_are_few_and_short():
    items = [called("x" * 100_000 + "_call"), called("Ä_call"), *(called(f"tool{number}_call") for number in range(99))]
    found = tooled(responded(*items))
    assert len(found.tool_calls) <= 17
    assert max(len(kind) for kind in found.tool_calls) <= 64
    assert sum(found.tool_calls.values()) == len(items)
    assert found.unpriced == "tool_calls"
