"""What the simulated provider does to the demo's day."""

from __future__ import annotations

from lowtide_local.simulator.scenario import (
    BatchWeather,
    CallFaults,
    Latencies,
    Latency,
    Mishap,
    MishapKind,
    Scenario,
    Window,
    WindowKind,
)

from .day import FLEX_GONE_H, HOUR_S, PRINTED, RUSH_H

STORM_S = 20


def weather(seed: int) -> Scenario:
    """The first batch expires in part, the second one's creation gets no reply, the one with a deadline in two hours
    would never end, its rescue finds no flex, and the rush meets 429."""
    return Scenario(
        seed=seed,
        latency=Latencies(
            default=Latency(min_s=0.4, max_s=2.5, slow_share=0.02, slow_s=6.0),
            flex=Latency(min_s=5.0, max_s=90.0),
            embeddings=Latency(min_s=0.1, max_s=0.3),
        ),
        calls=CallFaults(server_error=0.02, flex_unavailable=0.15, retry_after_s=2),
        windows=(
            Window(kind=WindowKind.RATE_LIMIT, from_s=RUSH_H * HOUR_S + 5, to_s=RUSH_H * HOUR_S + 5 + STORM_S),
            Window(kind=WindowKind.NO_FLEX, from_s=FLEX_GONE_H[0] * HOUR_S, to_s=FLEX_GONE_H[1] * HOUR_S),
        ),
        batch=BatchWeather(
            min_s=8 * 60,
            max_s=45 * 60,
            cancel_s=4 * 60,
            list_lag_s=30,
            item_server_error=0.02,
            shuffled=True,
            mishaps=(
                Mishap(kind=MishapKind.EXPIRES, batches=(1,), fraction=0.6),
                Mishap(kind=MishapKind.REPLY_LOST, batches=(2,)),
                Mishap(kind=MishapKind.NEVER_ENDS, contains=PRINTED),
            ),
        ),
    )
