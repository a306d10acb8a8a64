"""Worked totals are computed by hand from the prices on the provider's page; see docs/costs.md for the sources."""

import json
import sys
from datetime import date
from decimal import Decimal
from importlib.resources import files
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.charges import billed_lane
from lowtide.core.lanes import Lane
from lowtide.core.prices import PriceTable, Rate, Source
from lowtide.core.records import Usage
from lowtide.core.reported_usage import reports_usage, usage_of
from lowtide.core.task import Endpoint
from lowtide_local.pricing import sources
from lowtide_local.pricing.sources import Context, from_genai, from_litellm, shutdown_dates
from lowtide_local.pricing.table import UnsettledPricesError, build, catalogue

TABLE = PriceTable.load(files("lowtide").joinpath("prices.json").read_bytes())
TODAY = date(2026, 11, 30)


def cost(model, lane, tokens_in, cached, tokens_out, on=TODAY):
    usage = Usage(input_tokens=tokens_in, cached_input_tokens=cached, output_tokens=tokens_out)
    return TABLE.cost(model, lane, usage, on)


@pytest.mark.parametrize(
    ("model", "lane", "tokens", "dollars"),
    [
        # 1,200 x 0.125 + 300 x 1 = 450 millionths
        ("gpt-5-mini", Lane.BATCH, (1_200, 0, 300), "0.00045"),
        # 500 x 0.125 + 1,500 x 0.0125 + 100 x 1 = 181.25: the GPT-5 family's cached price is halved in a batch too
        ("gpt-5-mini", Lane.BATCH, (2_000, 1_500, 100), "0.00018125"),
        # 600 x 0.15 + 400 x 0.075 + 500 x 0.6 = 420
        ("gpt-4o-mini", Lane.DEFAULT, (1_000, 400, 500), "0.00042"),
        # 1,000 x 0.075 + 500 x 0.3 = 225: an older model's batch gives nothing for caching
        ("gpt-4o-mini", Lane.BATCH, (1_000, 400, 500), "0.000225"),
        # 2,000 x 1 + 8,000 x 0.25 + 500 x 4 = 6,000
        ("o3", Lane.FLEX, (10_000, 8_000, 500), "0.006"),
        # 333 x 0.025 + 7 x 0.2 = 9.725: nothing is rounded
        ("gpt-5-nano", Lane.FLEX, (333, 0, 7), "0.000009725"),
        # 800 x 2.5 + 200 x 0.25 + 400 x 20 = 10,050
        ("gpt-5", Lane.PRIORITY, (1_000, 200, 400), "0.01005"),
        # 1,500 x 3.5 + 500 x 0.875 + 100 x 14 = 7,087.5
        ("gpt-4.1", Lane.PRIORITY, (2_000, 500, 100), "0.0070875"),
        # 5,000 x 0.02, 5,000 x 0.01, 5,000 x 0.065, 5,000 x 0.05
        ("text-embedding-3-small", Lane.DEFAULT, (5_000, 0, 0), "0.0001"),
        ("text-embedding-3-small", Lane.BATCH, (5_000, 0, 0), "0.00005"),
        ("text-embedding-3-large", Lane.BATCH, (5_000, 0, 0), "0.000325"),
        ("text-embedding-ada-002", Lane.BATCH, (5_000, 0, 0), "0.00025"),
        # 272,000 x 2.5 + 1,000 x 15 = 695,000: still the short price
        ("gpt-5.4", Lane.DEFAULT, (272_000, 0, 1_000), "0.695"),
        # 272,001 x 5 + 1,000 x 22.5 = 1,382,505: one token more, and all of it is long
        ("gpt-5.4", Lane.DEFAULT, (272_001, 0, 1_000), "1.382505"),
        # 200,000 x 0.1 + 100,000 x 0.01 + 2,000 x 0.375 = 21,750
        ("gpt-6-luna", Lane.FLEX, (300_000, 100_000, 2_000), "0.02175"),
        # 1,000 x 0.5 + 1,000 x 2.5 = 3,000
        ("gpt-6.1-terra", Lane.BATCH, (1_000, 0, 1_000), "0.003"),
    ],
)
def test_a_worked_total_is_met_to_the_last_digit(model, lane, tokens, dollars):
    assert cost(model, lane, *tokens) == Decimal(dollars)


@pytest.mark.parametrize(
    ("model", "lane"),
    [
        ("gpt-4o", Lane.FLEX),
        ("gpt-5-nano", Lane.PRIORITY),
        ("text-embedding-3-small", Lane.FLEX),
        ("llama-4-scout", Lane.DEFAULT),
        ("ft:gpt-4o-mini:acme::abc123", Lane.DEFAULT),
        ("azure/gpt-4o-mini", Lane.DEFAULT),
        ("gpt-4o-mini-audio-preview", Lane.DEFAULT),
    ],
)
def test_what_is_not_in_the_table_has_no_price_rather_than_a_guessed_one(model, lane):
    assert cost(model, lane, 1_000, 0, 100) is None


def test_a_lane_without_a_long_context_price_has_none_past_the_threshold():
    assert cost("gpt-5.4", Lane.PRIORITY, 272_000, 0, 0) is not None
    assert cost("gpt-5.4", Lane.PRIORITY, 272_001, 0, 0) is None


def test_a_call_is_priced_with_the_price_of_its_day():
    assert cost("gpt-5.6-sol", Lane.DEFAULT, 1_000, 0, 100, on=date(2026, 7, 8)) is None
    assert cost("gpt-5.6-sol", Lane.DEFAULT, 1_000, 0, 100, on=date(2026, 8, 20)) == Decimal("0.008")
    assert cost("gpt-5.6-sol", Lane.DEFAULT, 1_000, 0, 100, on=date(2026, 8, 21)) == Decimal("0.006")


def test_a_dated_snapshot_costs_what_its_family_does():
    assert TABLE.knows("gpt-4o-mini-2024-07-18")
    assert cost("gpt-4o-mini-2024-07-18", Lane.BATCH, 1_000, 0, 0) == cost("gpt-4o-mini", Lane.BATCH, 1_000, 0, 0)


@pytest.mark.parametrize("model", ["gpt-4o-mini-9999-99-99", "gpt-4o-mini-2024-07-19", "openai/gpt-5-2020-01-01"])
def test_a_snapshot_that_nobody_knows_has_no_price(model):
    assert not TABLE.knows(model)
    assert cost(model, Lane.DEFAULT, 1_000, 0, 0) is None


def test_the_table_names_the_snapshots_of_its_models_and_no_others():
    table, _ = build(LISTED, [(ONE, {"m": LIST}), (TWO, {})], TODAY, dated=["m-2026-01-02", "other-2026-01-02"])
    assert table.snapshots == ("m-2026-01-02",)
    assert (table.knows("m-2026-01-02"), table.knows("m-2026-01-03")) == (True, False)


def test_a_snapshot_with_a_price_of_its_own_keeps_it():
    assert cost("gpt-4o-2024-05-13", Lane.DEFAULT, 1_000, 0, 0) == Decimal("0.005")
    assert cost("gpt-4o-2024-08-06", Lane.DEFAULT, 1_000, 0, 0) == Decimal("0.0025")


def test_the_provider_may_be_named_before_the_model():
    assert cost("openai/gpt-5-mini-2025-08-07", Lane.FLEX, 1_000, 0, 0) == Decimal("0.000125")
    assert not TABLE.knows("groq/gpt-5-mini")


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 2**31))
def test_a_price_is_exact_whatever_the_number_of_tokens(fresh, cached, tokens_out):
    rate = Rate(input=Decimal("0.75"), cached_input=Decimal("0.138"), output=Decimal("4.5"))
    usage = Usage(input_tokens=fresh + cached, cached_input_tokens=cached, output_tokens=tokens_out)
    assert rate.of(usage) * 1_000_000_000 == fresh * 750 + cached * 138 + tokens_out * 4_500


def every_context():
    for model, periods in TABLE.models.items():
        for period in periods:
            yield model, period.lanes
            if period.long_context is not None:
                yield model, period.long_context.lanes


@pytest.mark.parametrize(("model", "lanes"), list(every_context()))
def test_the_table_keeps_the_providers_own_rules(model, lanes):
    listed = lanes[Lane.DEFAULT]
    for lane in {Lane.BATCH, Lane.FLEX} & set(lanes):
        assert (lanes[lane].input * 2, lanes[lane].output * 2) == (listed.input, listed.output)
        if lanes[lane].cached_input is not None:
            # The provider prints some halves rounded up: 0.125 as 0.13, 0.1375 as 0.138.
            assert Decimal(0) <= lanes[lane].cached_input - listed.cached_input / 2 <= Decimal("0.005")
    if Lane.FLEX in lanes and listed.cached_input is not None:
        assert lanes[Lane.FLEX].cached_input is not None
    if Lane.PRIORITY in lanes:
        assert Decimal("1.6") < lanes[Lane.PRIORITY].output / listed.output <= Decimal("2.5")
    if listed.cached_input is not None:
        assert listed.cached_input <= listed.input / 2


def test_the_table_says_when_it_was_made_and_from_what():
    assert TABLE.generated_at == TODAY
    assert len(TABLE.sources) == 2
    assert all(source.url.startswith("https://") and source.version for source in TABLE.sources)


def test_periods_follow_each_other_in_time():
    for periods in TABLE.models.values():
        starts = [period.starts for period in periods]
        assert starts == sorted(set(starts))


def test_usage_is_read_from_each_endpoints_own_words():
    chat = {
        "usage": {"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 12}},
    }
    responses = {
        "usage": {"input_tokens": 20, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 12}},
    }
    whole = Usage(input_tokens=20, cached_input_tokens=12, output_tokens=7)
    assert usage_of(chat, Endpoint.CHAT) == whole
    assert usage_of(responses, Endpoint.RESPONSES) == whole
    embeddings = {"usage": {"prompt_tokens": 9, "total_tokens": 9}}
    assert usage_of(embeddings, Endpoint.EMBEDDINGS) == Usage(input_tokens=9)


@pytest.mark.parametrize(
    "body",
    [
        None,
        "no object",
        [],
        {},
        {"usage": None},
        {"usage": "many"},
        {"usage": {"prompt_tokens": None, "completion_tokens": "seven", "prompt_tokens_details": []}},
        {"usage": {"prompt_tokens": 10**30, "completion_tokens": 1.5, "input_tokens": float("nan")}},
        {"usage": {"prompt_tokens": -3, "completion_tokens": True, "prompt_tokens_details": {"cached_tokens": 5}}},
    ],
)
@pytest.mark.parametrize("endpoint", Endpoint)
def test_garbled_usage_counts_as_none_and_never_raises(body, endpoint):
    assert usage_of(body, endpoint) == Usage()
    assert not reports_usage(body, endpoint)


@pytest.mark.parametrize("count", [12, 12.0, "12"])
def test_a_count_is_read_however_a_server_writes_its_numbers(count):
    body = {"usage": {"prompt_tokens": count, "completion_tokens": count}}
    assert usage_of(body, Endpoint.CHAT) == Usage(input_tokens=12, output_tokens=12)
    assert reports_usage(body, Endpoint.CHAT)


def test_half_a_count_is_told_and_has_no_price():
    body = {"usage": {"prompt_tokens": 12, "completion_tokens": "many"}}
    assert usage_of(body, Endpoint.CHAT) == Usage(input_tokens=12)
    assert not reports_usage(body, Endpoint.CHAT)
    assert reports_usage(body, Endpoint.EMBEDDINGS), "which writes nothing that could be counted"


def test_no_more_tokens_are_cached_than_were_sent():
    body = {"usage": {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 99}}}
    assert usage_of(body, Endpoint.CHAT).cached_input_tokens == 10


@pytest.mark.parametrize(
    ("body", "asked", "billed"),
    [
        ({"service_tier": "flex"}, Lane.FLEX, Lane.FLEX),
        ({"service_tier": "default"}, Lane.PRIORITY, Lane.DEFAULT),
        ({"service_tier": "priority"}, Lane.DEFAULT, Lane.PRIORITY),
        ({"service_tier": "fast"}, Lane.PRIORITY, Lane.PRIORITY),
        ({"service_tier": "auto"}, Lane.FLEX, Lane.DEFAULT),
        ({"service_tier": "scale"}, Lane.FLEX, Lane.DEFAULT),
        ({"service_tier": " Flex"}, Lane.FLEX, Lane.FLEX),
        ({"service_tier": "on_demand"}, Lane.FLEX, Lane.DEFAULT),
        ({"service_tier": "standard"}, Lane.FLEX, Lane.DEFAULT),
        ({"service_tier": "performance"}, Lane.PRIORITY, Lane.PRIORITY),
        ({"service_tier": "never_heard_of"}, Lane.DEFAULT, Lane.DEFAULT),
        ({"service_tier": "ultrafast"}, Lane.FLEX, Lane.PRIORITY),
        ({"service_tier": ["flex"]}, Lane.DEFAULT, Lane.DEFAULT),
        ({"service_tier": None}, Lane.FLEX, Lane.DEFAULT),
        ({}, Lane.FLEX, Lane.DEFAULT),
        (None, Lane.PRIORITY, Lane.DEFAULT),
        ({"service_tier": "default"}, Lane.BATCH, Lane.BATCH),
    ],
)
def test_the_lane_that_came_back_is_the_lane_that_is_billed(body, asked, billed):
    assert billed_lane(body, asked) is billed


ONE = Source(name="one", url="https://one.example", version="1")
TWO = Source(name="two", url="https://two.example", version="1")
LIST = {(Lane.DEFAULT, Context.SHORT): Rate(input=Decimal(2), output=Decimal(8))}
DEARER = {(Lane.DEFAULT, Context.SHORT): Rate(input=Decimal(3), output=Decimal(8))}
LISTED = {"models": {"m": {"from": TODAY, "half_of_list": ["batch"]}}, "earlier": []}


def test_sources_that_differ_make_no_table():
    with pytest.raises(UnsettledPricesError, match=r"^m default short: one has .* but two has "):
        build(LISTED, [(ONE, {"m": LIST}), (TWO, {"m": DEARER})], TODAY)


def test_the_table_keeps_the_ends_of_its_models_their_snapshots_and_their_aliases():
    listed = {"models": LISTED["models"] | {"other": LISTED["models"]["m"], "now": {"alias_of": "m"}}, "earlier": []}
    early, late = date(2027, 1, 14), date(2027, 6, 1)
    ends = {"m": late, "m-2026-01-02": early, "another": early, "m-mini": early}
    table, _ = build(listed, [(ONE, {"m": LIST, "other": LIST}), (TWO, {})], TODAY, ends)
    assert table.shutdown_dates == {"now": late, "m": late, "m-2026-01-02": early}
    assert table.shutdown_date("openai/m-2026-01-02") == early
    assert table.shutdown_date("m-2026-03-04") == late
    assert table.shutdown_date("other") is None


def test_the_ends_that_litellm_lists_are_read_for_openai_alone(tmp_path):
    litellm = tmp_path / "prices.json"
    rows = {
        "sample_spec": {"deprecation_date": "YYYY-MM-DD", "litellm_provider": "one of …"},
        "m": {"deprecation_date": "2027-01-14", "litellm_provider": "openai"},
        "azure/m": {"deprecation_date": "2027-03-01", "litellm_provider": "azure"},
        "stays": {"litellm_provider": "openai"},
    }
    litellm.write_text(json.dumps(rows))
    assert shutdown_dates(litellm) == {"m": date(2027, 1, 14)}


def test_a_day_that_is_none_makes_no_table(tmp_path):
    litellm = tmp_path / "prices.json"
    litellm.write_text(json.dumps({"m": {"deprecation_date": "soon", "litellm_provider": "openai"}}))
    with pytest.raises(ValueError, match="soon"):
        shutdown_dates(litellm)


def test_a_model_that_no_source_knows_makes_no_table():
    with pytest.raises(UnsettledPricesError, match="m: no source has a list price"):
        build(LISTED, [(ONE, {}), (TWO, {})], TODAY)


def test_what_rests_on_one_source_or_on_a_rule_is_said():
    table, notes = build(LISTED, [(ONE, {"m": LIST}), (TWO, {})], TODAY)
    assert notes == ["m default short: one alone", "m batch short: half of list, by rule"]
    assert table.cost("m", Lane.BATCH, Usage(input_tokens=1_000_000), TODAY) == 1


def test_both_sources_are_read_into_the_same_rates(tmp_path, monkeypatch):
    """GIVEN the same model in LiteLLM's words and in genai-prices' WHEN both are read THEN they agree."""
    per_token = {
        "input_cost_per_token": 2.5e-06,
        "output_cost_per_token": 1.5e-05,
        "cache_read_input_token_cost": 2.5e-07,
        "cache_creation_input_token_cost": 3e-06,
        "cache_creation_input_token_cost_above_272k_tokens": 6e-06,
        "input_cost_per_token_batches": 1.25e-06,
        "output_cost_per_token_batches": 7.5e-06,
        "input_cost_per_token_above_272k_tokens": 5e-06,
        "output_cost_per_token_above_272k_tokens": 2.25e-05,
    }
    litellm = tmp_path / "prices.json"
    litellm.write_text(json.dumps({"m": per_token}))

    def priced(tokens_in, cached, tokens_out, written=None):
        return SimpleNamespace(
            input_mtok=tokens_in, cache_read_mtok=cached, output_mtok=tokens_out, cache_write_mtok=written
        )

    def tiered(base, above):
        return SimpleNamespace(base=Decimal(base), tiers=[SimpleNamespace(start=272_000, price=Decimal(above))])

    model = SimpleNamespace(
        id="m",
        prices=[
            SimpleNamespace(prices=priced(tiered("2.5", "5"), Decimal("0.25"), tiered("15", "22.5"), tiered("3", "6")))
        ],
        price_variants=[
            SimpleNamespace(when={"processing": "batch"}, prices=priced(Decimal("1.25"), None, Decimal("7.5"))),
            SimpleNamespace(when={"service_tier": "default"}, prices=priced(None, None, None)),
        ],
    )
    data = ModuleType("genai_prices.data")
    data.providers = [SimpleNamespace(id="openai", models=[model])]
    monkeypatch.setitem(sys.modules, "genai_prices", ModuleType("genai_prices"))
    monkeypatch.setitem(sys.modules, "genai_prices.data", data)
    monkeypatch.setattr(sources.metadata, "version", lambda _: "0")

    _, first = from_litellm(litellm, "0")
    _, second = from_genai()
    assert first["m"] == second["m"]
    assert first["m"][Lane.DEFAULT, Context.LONG].output == Decimal("22.5")
    assert first["m"][Lane.DEFAULT, Context.LONG].cache_write == Decimal(6)


def test_a_price_of_cache_writes_that_one_source_has_is_kept_and_two_that_differ_are_refused():
    def writing(price, long=None):
        return {"m": {(Lane.DEFAULT, Context.SHORT): Rate(input=Decimal(2), cache_write=price, cache_write_12h=long)}}

    listed = {"models": {"m": {"from": date(2026, 1, 1)}}, "earlier": []}
    table, _ = build(listed, [(ONE, writing(Decimal("2.5"), Decimal(5))), (TWO, writing(Decimal("2.5")))], TODAY)
    [period] = table.models["m"]
    assert (period.lanes[Lane.DEFAULT].cache_write, period.lanes[Lane.DEFAULT].cache_write_12h) == (Decimal("2.5"), 5)
    with pytest.raises(UnsettledPricesError, match="m default short"):
        build(listed, [(ONE, writing(Decimal("2.5"))), (TWO, writing(Decimal(3)))], TODAY)


def test_every_model_of_the_catalogue_is_in_the_shipped_table():
    assert set(TABLE.models) == set(catalogue()["models"])
