"""What a prompt costs that the provider writes to its cache: from GPT-5.6 on, more than plain input."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from lowtide.adapters.shipped import shipped_prices
from lowtide.core.lanes import Lane
from lowtide.core.prices import Period, Rate
from lowtide.core.records import Usage
from lowtide.core.reported_usage import usage_of
from lowtide.core.task import Endpoint

TODAY = date(2026, 11, 30)
PRICES = shipped_prices()


def chat(**details):
    return {"usage": {"prompt_tokens": 10_000, "completion_tokens": 10, "prompt_tokens_details": details}}


def responses(**details):
    return {"usage": {"input_tokens": 10_000, "output_tokens": 10, "input_tokens_details": details}}


def cost(model, lane, usage, on=TODAY):
    return PRICES.cost(model, lane, usage, on)


@pytest.mark.parametrize(
    ("lane", "details", "dollars"),
    [
        (Lane.DEFAULT, {"cache_write_tokens": 10_000}, "0.0251"),
        (Lane.BATCH, {"cache_write_tokens": 10_000}, "0.01255"),
        (Lane.FLEX, {"cache_write_tokens": 10_000}, "0.01255"),
        (
            Lane.DEFAULT,
            {"cache_write_tokens": 10_000, "cache_write_tokens_details": {"ttl_12h_tokens": 10_000}},
            "0.0501",
        ),
        # 4,000 x 0.2 + 3,000 x 2.5 + 2,000 x 5 + 1,000 x 2 + 10 x 10, in millionths
        (
            Lane.DEFAULT,
            {
                "cached_tokens": 4_000,
                "cache_write_tokens": 5_000,
                "cache_write_tokens_details": {"ttl_30m_tokens": 3_000, "ttl_12h_tokens": 2_000},
            },
            "0.0204",
        ),
        (Lane.DEFAULT, {"cache_write_tokens": 0}, "0.0201"),
    ],
)
def test_what_is_written_costs_its_own_price(lane, details, dollars):
    assert cost("gpt-6-sol", lane, usage_of(responses(**details), Endpoint.RESPONSES)) == Decimal(dollars)


def test_a_chat_says_it_in_its_own_words():
    assert usage_of(chat(cache_write_tokens=10_000), Endpoint.CHAT) == Usage(
        input_tokens=10_000, cache_write_tokens=10_000, output_tokens=10
    )


@pytest.mark.parametrize("model", ["gpt-5.5", "gpt-5-mini", "gpt-4o", "o3"])
def test_models_that_write_their_cache_for_nothing_charge_it_as_input(model):
    written = Usage(input_tokens=10_000, cache_write_tokens=6_000, cache_write_12h_tokens=4_000)
    plain = cost(model, Lane.DEFAULT, Usage(input_tokens=10_000))
    assert plain is not None
    assert cost(model, Lane.DEFAULT, written) == plain


def test_where_a_model_charges_writes_and_a_lanes_price_for_them_is_not_known_the_answer_is_unpriced():
    known = Rate(input=Decimal(2), cache_write=Decimal("2.5"))
    period = Period.model_validate({"from": TODAY, "lanes": {Lane.DEFAULT: known, Lane.FLEX: Rate(input=Decimal(1))}})
    short, long = Usage(input_tokens=9, cache_write_tokens=1), Usage(input_tokens=9, cache_write_12h_tokens=1)
    assert period.lanes[Lane.DEFAULT].of(short) == Decimal("0.0000185")
    assert period.rate(Lane.DEFAULT, long).of(long) is None
    assert period.rate(Lane.FLEX, short).of(short) is None
    assert period.rate(Lane.FLEX, Usage(input_tokens=9)).of(Usage(input_tokens=9)) == Decimal("0.000009")


@pytest.mark.parametrize("model", sorted(PRICES.models))
def test_every_lane_and_context_of_a_model_that_charges_writes_has_both_their_prices(model):
    for period in PRICES.models[model]:
        lanes = [*period.lanes.values(), *(period.long_context.lanes.values() if period.long_context else ())]
        for rate in lanes:
            assert (rate.cache_write is None) is (period.lanes[Lane.DEFAULT].cache_write is None)
            if rate.cache_write is not None:
                times = (rate.cache_write / rate.input, rate.cache_write_12h / rate.input)
                assert times == (Decimal("1.25"), Decimal("2.5"))


@pytest.mark.parametrize(
    ("details", "cached", "short", "long"),
    [
        ({"cached_tokens": 9_999, "cache_write_tokens": 10_000}, 9_999, 1, 0),
        ({"cache_write_tokens": 20_000}, 0, 10_000, 0),
        ({"cache_write_tokens": "12"}, 0, 12, 0),
        ({"cache_write_tokens": -1, "cache_write_tokens_details": "none"}, 0, 0, 0),
        ({"cache_write_tokens_details": {"ttl_30m_tokens": 3, "ttl_12h_tokens": 4}}, 0, 3, 4),
        ({"cache_write_tokens": 5, "cache_write_tokens_details": {"ttl_12h_tokens": 9}}, 0, 0, 9),
        ({"cache_write_tokens": None, "cache_write_tokens_details": None}, 0, 0, 0),
    ],
)
def test_no_more_is_written_or_cached_than_came_in(details, cached, short, long):
    found = usage_of(responses(**details), Endpoint.RESPONSES)
    assert (found.cached_input_tokens, found.cache_write_tokens, found.cache_write_12h_tokens) == (cached, short, long)


def test_sums_keep_what_was_written_and_a_record_names_it_only_where_there_is_any():
    written = Usage(input_tokens=10, cache_write_tokens=2, cache_write_12h_tokens=3)
    assert (written + written).model_dump() == {
        "input_tokens": 20,
        "cached_input_tokens": 0,
        "cache_write_tokens": 4,
        "cache_write_12h_tokens": 6,
        "output_tokens": 0,
    }
    assert set(Usage(input_tokens=1).model_dump()) == {"input_tokens", "cached_input_tokens", "output_tokens"}
    assert Usage.model_validate_json(written.model_dump_json()) == written
