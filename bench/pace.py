"""How well a provider's rate limit is used: ``make bench-pace``.

A provider lets R calls a minute through, and not a second's worth more at once. More tasks wait than it can take.
Measured: accepted calls ÷ R (aim at least 0.9), and the share of 429s after the first minute (aim at most 2 %), from
one consumer and from eight, where the provider tells its limit in its headers and where only its 429s tell. Exits 1
where an aim is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lowtide_local.simulator.scenario import Latencies, Latency, RateLimit, Scenario

from .crowd import MODEL, Crowd, gather

MINUTE_S = 60
LEAST_USED = 0.9
MOST_LIMITED = 0.02
SURPLUS = 1.3
"""Tasks that wait, as a share of what the limit lets through: the queue must not run empty."""


@dataclass(frozen=True, slots=True)
class Figures:
    """``used``: accepted calls ÷ R over the whole time. ``limited``: share of 429s after the first minute.
    ``writes_per_call``: of the shared rows."""

    consumers: int
    told: bool
    used: float
    limited: float
    writes_per_call: float

    @property
    def good(self) -> bool:
        return self.used >= LEAST_USED and self.limited <= MOST_LIMITED


def measure(directory: Path, *, per_minute: int, minutes: int, consumers: int, told: bool) -> Figures:
    """``told``: the provider's answers name its limit."""
    limit = RateLimit(requests_per_minute=per_minute, burst_s=1, headers=told)
    scenario = Scenario(latency=Latencies(default=Latency(min_s=0.5, max_s=2.0)), limits={MODEL: limit})

    async def story(crowd: Crowd) -> Figures:
        crowd.feed(round(per_minute * minutes * SURPLUS))
        began: list[tuple[int, int]] = []

        async def after_a_minute() -> None:
            await crowd.clock.sleep(MINUTE_S)
            began.append((crowd.calls, crowd.provider.limited))

        async with asyncio.TaskGroup() as group:
            group.create_task(after_a_minute())
            group.create_task(crowd.work(consumers, until=lambda: False, longest_s=minutes * MINUTE_S))
        [(calls, limited)] = began
        writes = sum(row.rev for row in crowd.engine.paces.scan())
        return Figures(
            consumers,
            told,
            used=len(crowd.provider.billed) / (per_minute * minutes),
            limited=(crowd.provider.limited - limited) / max(1, crowd.calls - calls),
            writes_per_call=writes / max(1, crowd.calls),
        )

    return gather(directory, scenario, story)


def main() -> int:
    """Returns the exit code."""
    asked = argparse.ArgumentParser(prog="python -m bench.pace", description=__doc__)
    asked.add_argument("--per-minute", type=int, default=300, help="R, the provider's limit")
    asked.add_argument("--minutes", type=int, default=6)
    options = asked.parse_args()
    sys.stdout.write(f"R = {options.per_minute} calls a minute, {options.minutes} simulated minutes\n")
    sys.stdout.write("consumers  limit is       accepted / R  429s after 1 min  row writes / call\n")
    good = True
    for told in (True, False):
        for consumers in (1, 8):
            with tempfile.TemporaryDirectory() as directory:
                figures = measure(
                    Path(directory),
                    per_minute=options.per_minute,
                    minutes=options.minutes,
                    consumers=consumers,
                    told=told,
                )
            known = "in headers" if told else "found by 429s"
            sys.stdout.write(
                f"{consumers:9}  {known:13}  {figures.used:12.3f}  {figures.limited:15.2%}"
                f"  {figures.writes_per_call:17.2f}\n"
            )
            sys.stdout.flush()
            good = good and figures.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
