"""What tasks would cost, in the hour in which they would be bought."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from lowtide.adapters.shipped import shipped_prices, shipped_routes
from lowtide.core.acceptance import accept
from lowtide.core.charges import seller
from lowtide.core.offpeak import OffPeak
from lowtide_local.operate.estimate import Estimate

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
WINDOW = {"from": "2026-03-01", "opens": "12:00", "closes": "20:00", "discount": "0.4", "lanes": ["default", "batch"]}
HOUR_S = 3_600


def estimated(kind, deadline_s, *windows):
    routes = shipped_routes()
    openai = routes.providers["openai"].model_copy(update={"off_peak": windows})
    routes = routes.model_copy(update={"providers": {"openai": openai}})
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "?"}], "max_tokens": 100}
    raw = {"task_id": "t", "type": kind, "deadline_seconds": deadline_s}
    raw["request"] = {"url": "/v1/chat/completions", "body": body}
    estimate, sold = Estimate(), seller(openai, shipped_prices())
    estimate.add([accept(raw, origin="o", sent_at=NOW, routes=routes)], routes, lambda _: sold, NOW)
    return estimate.total.most_usd


@pytest.mark.parametrize(
    ("kind", "deadline_s", "share"),
    [
        ("meeting_summary", 6 * HOUR_S, "0.6"),
        ("meeting_summary", 1 * HOUR_S, "1"),
        ("email_draft", 6 * HOUR_S, "1"),
        ("content_generation", 24 * HOUR_S, "0.6"),
        ("content_generation", 4 * HOUR_S, "1"),
    ],
)
def test_what_has_time_for_the_cheaper_hours_is_estimated_at_their_price(kind, deadline_s, share):
    without = estimated(kind, deadline_s)
    assert estimated(kind, deadline_s, OffPeak.model_validate(WINDOW)) == without * Decimal(share)


def test_in_the_cheaper_hours_everything_is_estimated_at_their_price():
    open_now = OffPeak.model_validate(WINDOW | {"opens": "07:00"})
    assert estimated("email_draft", 60, open_now) == estimated("email_draft", 60) * Decimal("0.6")
