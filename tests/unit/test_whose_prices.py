"""The prices that a provider's answers are charged at: by its host, or as the deployment says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from lowtide.adapters.shipped import own_prices, routes_text, shipped_prices, shipped_routes
from lowtide.core.charges import Seller, seller
from lowtide.core.errors import ConfigError
from lowtide.core.lanes import Lane
from lowtide.core.prices import PriceTable
from lowtide.core.routes import Routes
from lowtide.core.task import Endpoint
from lowtide_local.cli.config import warnings

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
TODAY = NOW.date()
PRICES = shipped_prices()
BODY = {"model": "gpt-6-luna", "usage": {"prompt_tokens": 1_000, "completion_tokens": 300}}
OWN = PriceTable.model_validate(
    {
        "generated_at": "2026-10-01",
        "sources": [],
        "models": {"gpt-oss": [{"from": "2026-01-01", "lanes": {"default": {"input": "1", "output": "2"}}}]},
    }
)


def sold(base_url, prices=None, own=None) -> Seller:
    routes = shipped_routes().at(base_url, prices)
    return seller(routes.provider("openai"), PRICES, own or {})


def charge(sold_by: Seller, body=BODY, model="gpt-6-luna", asked=Lane.DEFAULT):
    return sold_by.charge(body, Endpoint.CHAT, model, asked, NOW)


def used(sold_by: Seller) -> tuple[object, ...]:
    document = sold_by.source.document(TODAY)
    return tuple(document[name] for name in ("table", "generated_at", "assumed", "stale"))


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.openai.com/v1",
        "https://API.OPENAI.COM:443/v1",
        "https://eu.api.openai.com/v1",
        "https://US.api.openai.com./v1",
    ],
)
def test_openais_hosts_are_charged_at_openais_prices(base_url):
    found = sold(base_url)
    assert used(found) == ("openai", "2026-11-30", False, False)
    assert charge(found).cost_usd is not None


@pytest.mark.parametrize(
    "base_url",
    [
        "http://localhost:8080/v1",
        "http://127.0.0.1/v1",
        "http://[::1]:9/v1",
        "http://llm.localhost/v1",
        "http://0.0.0.0/v1",
    ],
)
def test_this_machine_is_charged_at_openais_prices_and_says_that_they_are_assumed(base_url):
    found = sold(base_url)
    assert found.source.document(TODAY) == {
        "table": "openai",
        "generated_at": "2026-11-30",
        "assumed": True,
        "stale": False,
    }
    assert charge(found).cost_usd == charge(Seller(PRICES)).cost_usd


@pytest.mark.parametrize(
    "base_url",
    [
        "https://llm.example/v1",
        "https://api.groq.com/openai/v1",
        "https://acme.openai.azure.com/openai/v1",
        "https://api.openai.com.example/v1",
        "https://openrouter.ai/api/v1",
        "http://10.0.0.4:8000/v1",
        "http://localhost.example/v1",
    ],
)
def test_elsewhere_nothing_is_priced_and_nothing_is_saved(base_url):
    found = sold(base_url)
    assert used(found) == ("none", None, False, False)
    made = charge(found, asked=Lane.BATCH)
    assert (made.cost_usd, made.list_usd, made.unpriced) == (None, None, "foreign_provider")


def test_a_deployment_that_says_openai_is_charged_so_and_says_that_it_is_assumed():
    azure = sold("https://acme.openai.azure.com/openai/v1", "openai")
    assert azure.source.document(TODAY) == {
        "table": "openai",
        "generated_at": "2026-11-30",
        "assumed": True,
        "stale": False,
    }
    named = charge(azure, model="my-deployment")
    assert (named.model, named.cost_usd) == ("gpt-6-luna", charge(Seller(PRICES)).cost_usd)


def test_this_machine_names_no_model_that_was_not_asked_for_unless_it_is_said_so():
    assert charge(sold("http://localhost/v1"), model="mine").unpriced == "no_model_price"
    assert charge(sold("http://localhost/v1", "openai"), model="mine").unpriced is None


def test_openai_itself_may_be_left_unpriced():
    assert charge(sold("https://api.openai.com/v1", "none")).unpriced == "foreign_provider"


@pytest.mark.parametrize("base_url", ["https://llm.example/v1", "http://localhost/v1"])
def test_a_table_of_ones_own_prices_what_it_has(base_url):
    found = sold(base_url, shipped_own("mine.json"), {"mine.json": OWN})
    assert found.source.document(TODAY) == {
        "table": "mine.json",
        "generated_at": "2026-10-01",
        "assumed": False,
        "stale": True,
    }
    made = charge(found, BODY | {"model": "gpt-oss"}, "gpt-oss")
    assert made.cost_usd == Decimal("0.0016")
    assert charge(found).unpriced == "no_model_price", "which OpenAI's table has"


def shipped_own(path):
    return Routes.load(overlaid(f'prices = {{ path = "{path}" }}')).provider("openai").prices


def overlaid(line: str) -> str:
    return routes_text().replace("[providers.openai]\n", f"[providers.openai]\n{line}\n", 1)


def test_a_table_that_could_not_be_read_prices_nothing():
    found = sold("https://llm.example/v1", shipped_own("mine.json"))
    assert found.source.document(TODAY) == {
        "table": "mine.json",
        "generated_at": None,
        "assumed": False,
        "stale": False,
    }
    assert charge(found).unpriced == "foreign_provider"


def test_a_table_in_a_file_named_like_a_word_is_that_file():
    found = sold("https://llm.example/v1", shipped_own("openai"), {"openai": OWN})
    assert charge(found, BODY | {"model": "gpt-oss"}, "gpt-oss").cost_usd == Decimal("0.0016")


def test_a_provider_that_is_not_there_any_more_has_no_prices():
    assert charge(seller(None, PRICES)).unpriced == "foreign_provider"


@pytest.mark.parametrize("value", ['"azure"', '""', "1", "true", "{}", '{ path = "" }', '{ file = "a" }', '["openai"]'])
def test_what_is_no_price_table_is_refused_with_its_line(value):
    with pytest.raises(ConfigError, match=r"line \d+: providers.openai.prices: is neither \"openai\" nor \"none\""):
        Routes.load(overlaid(f"prices = {value}"))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"generated_at": "2026-10-01", "sources": [], "models": {}}', "\xff"]
)
def test_a_file_that_is_no_price_table_is_told_in_a_line(tmp_path, text):
    file = tmp_path / "prices.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"price table .*prices\.json: .*; give a file of the form of") as told:
        own_prices(str(file))
    assert "\n" not in str(told.value)


def test_a_file_that_is_not_there_is_told_in_a_line(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        own_prices(str(tmp_path / "prices.json"))


def test_the_shipped_table_is_a_table_of_that_form(tmp_path):
    file = tmp_path / "prices.json"
    file.write_text(PRICES.model_dump_json(by_alias=True))
    assert own_prices(str(file)) == PRICES


WRITTEN = {
    "model": "gpt-6-sol",
    "usage": {"input_tokens": 10_000, "output_tokens": 10, "input_tokens_details": {"cache_write_tokens": 10_000}},
}


def written(base_url, asked=Lane.DEFAULT, **fields):
    sold_by = sold(base_url)
    return sold_by.charge(WRITTEN | fields, Endpoint.RESPONSES, "gpt-6-sol", asked, NOW)


@pytest.mark.parametrize(
    "base_url",
    [
        *(f"https://{region}.api.openai.com/v1" for region in ("us", "eu", "au", "in", "jp", "ae", "new-one")),
        "https://EU.API.OpenAI.com:443/v1",
        "https://eu.api.openai.com./v1/",
    ],
)
def test_a_region_costs_a_tenth_more_and_its_list_price_too(base_url):
    assert written(base_url).cost_usd == written(base_url).list_usd == Decimal("0.02761")
    assert written(base_url, Lane.BATCH).cost_usd == Decimal("0.013805")


@pytest.mark.parametrize(
    "base_url", ["https://api.openai.com/v1", "http://localhost/v1", "https://API.openai.com:443/v1"]
)
def test_elsewhere_there_is_no_surcharge(base_url):
    assert written(base_url).cost_usd == Decimal("0.0251")


@pytest.mark.parametrize(
    ("model", "times"),
    [
        ("gpt-5.4", "1.1"),  # released on 5 March 2026
        ("gpt-5.4-mini-2026-03-17", "1.1"),
        ("gpt-5.6", "1.1"),
        ("openai/gpt-6-luna", "1.1"),
        ("gpt-5.2", "1"),
        ("gpt-4o", "1"),
        ("gpt-4o-2024-05-13", "1"),
        ("text-embedding-3-small", "1"),
    ],
)
def test_models_that_are_older_than_the_surcharge_do_not_pay_it(model, times):
    here, there = sold("https://api.openai.com/v1"), sold("https://eu.api.openai.com/v1")
    body = BODY | {"model": model}
    plain = charge(here, body, model).cost_usd
    assert charge(there, body, model).cost_usd == plain * Decimal(times)


def test_the_fees_of_tools_have_no_surcharge():
    tokens = written("https://eu.api.openai.com/v1").cost_usd
    fees = written("https://eu.api.openai.com/v1", output=[{"type": "web_search_call"}]).cost_usd - tokens
    assert fees == Decimal("0.01")


def test_a_receipt_says_which_region_was_paid_for():
    assert sold("https://EU.api.openai.com/v1").source.document(TODAY)["region"] == "eu"
    assert "region" not in sold("https://api.openai.com/v1").source.document(TODAY)
    assert sold("https://eu.api.openai.com/v1").source.told(TODAY) == "openai, of 2026-11-30, in the region eu"


@pytest.mark.parametrize(("days", "stale"), [(-28, False), (0, False), (30, False), (31, True), (400, True)])
def test_prices_are_stale_after_thirty_days_and_the_receipt_says_so(days, stale):
    source, day = Seller(PRICES).source, PRICES.generated_at + timedelta(days=days)
    assert source.document(day)["stale"] is stale
    assert ("older than 30 days" in source.told(day)) is stale
    assert any(each.startswith("prices: ") for each in warnings(shipped_routes(), PRICES, day)) is stale


def test_prices_that_are_not_known_are_not_stale():
    source = sold("https://llm.example/v1").source
    assert source.document(TODAY + timedelta(days=400))["stale"] is False
    assert source.told(TODAY) == "none known for this provider"


def test_a_deployments_address_is_the_one_whose_prices_hold():
    routes = shipped_routes()
    abroad = routes.reached_at("https://eu.api.openai.com/v1")
    assert seller(abroad.providers["openai"], shipped_prices()).region == "eu"
    assert (
        seller(routes.reached_at("https://llm.example/v1").providers["openai"], shipped_prices()).source.table == "none"
    )
    assert routes.reached_at(None) is routes.reached_at("") is routes


@pytest.mark.parametrize("path", ["a\0b", "/dev/zero", ".", "/dev/null"])
def test_what_is_no_file_of_reasonable_length_is_told_in_a_line(path):
    with pytest.raises(ConfigError, match=r"^price table [ -~]+: [ -~]+$"):
        own_prices(path)


@pytest.mark.parametrize("price", ["-5", "1e400", "NaN"])
def test_a_price_below_nothing_or_beyond_reason_is_refused(tmp_path, price):
    table = tmp_path / "prices.json"
    table.write_text(shipped_prices().model_dump_json().replace('"input":"', f'"input":"{price}","was":"', 1))
    with pytest.raises(ConfigError):
        own_prices(str(table))
