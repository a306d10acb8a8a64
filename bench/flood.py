"""CRITICAL under a flood of NORMAL: ``make bench-flood``.

CRITICAL tasks come twice a second; measured is how long each takes from its sending to its record: alone, while
thousands of NORMAL tasks are worked off, and the same with preemption switched off. Two things may be short.

- The rate: one provider, one limit for all. Calls share it one by one and an urgent one goes first, so that there is
  nothing left for preemption to do.
- Functions: an account runs so many at once. NORMAL holds them for minutes, and gives them back when it is preempted,
  as soon as the calls that are under way have ended.

Exits 1 where the flood makes the 99th percentile more than 1.2 times as long under the limit, or preemption brings
nothing where functions are short.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.preemption import Preemption
from lowtide_local.simulator.scenario import Latencies, Latency, RateLimit, Scenario

from . import few_functions
from .tiers import MODEL, Arrival, percentile, times

EVERY_S = 0.5
FROM_S = 10.0
MOST = 1.2
ALONE, FLOODED, UNPREEMPTED = "alone", "flooded", "flooded, no preemption"


def scenario(per_minute: int) -> Scenario:
    limit = RateLimit(requests_per_minute=per_minute, burst_s=1, headers=True)
    return Scenario(latency=Latencies(default=Latency(min_s=0.5, max_s=2.0)), limits={MODEL: limit})


def measure(directory: Path, *, per_minute: int, seconds: int, flood: int, preemption: bool) -> list[float]:
    """Seconds that each CRITICAL task took, ascending."""
    critical = [
        Arrival(FROM_S + number * EVERY_S, "live_chat_response", "chat", 1, measured=True)
        for number in range(round(seconds / EVERY_S))
    ]
    normal = [Arrival(0.0, "meeting_summary", "bulk", flood, measured=False)] if flood else []
    routes = shipped_routes().model_copy(update={"preemption": Preemption(enabled=preemption)})
    return times(directory, scenario(per_minute), [*normal, *critical], routes)


def main() -> int:
    """Returns the exit code."""
    asked = argparse.ArgumentParser(prog="python -m bench.flood", description=__doc__)
    asked.add_argument("--flood", type=int, default=20_000, help="NORMAL tasks that wait from the start")
    asked.add_argument("--seconds", type=int, default=120, help="for which CRITICAL tasks come")
    asked.add_argument("--per-minute", type=int, default=1_200, help="the provider's limit")
    options = asked.parse_args()
    sys.stdout.write(
        f"{options.flood} NORMAL tasks, {options.seconds / EVERY_S:.0f} CRITICAL ones in {options.seconds} simulated "
        f"seconds\n\na limit of {options.per_minute} calls a minute for all; functions as many as are needed\n"
    )
    limited = _printed(lambda directory, **case: measure(directory, per_minute=options.per_minute, **case), options)
    sys.stdout.write(
        f"\nno limit; {few_functions.FUNCTIONS} functions at once for all tiers, held by NORMAL calls of 10 to 60 s\n"
    )
    short = _printed(few_functions.measure, options)
    return 0 if limited[FLOODED] <= MOST * limited[ALONE] and short[FLOODED] < short[UNPREEMPTED] else 1


def _printed(measured: Callable[..., list[float]], options: argparse.Namespace) -> dict[str, float]:
    """The 99th percentile of each case."""
    p99: dict[str, float] = {}
    for name, flood, preemption in (
        (ALONE, 0, True),
        (FLOODED, options.flood, True),
        (UNPREEMPTED, options.flood, False),
    ):
        with tempfile.TemporaryDirectory() as directory:
            took = measured(Path(directory), seconds=options.seconds, flood=flood, preemption=preemption)
        p99[name] = percentile(took, 99)
        ratio = p99[name] / p99[ALONE]
        sys.stdout.write(f"{name:24}p50 {percentile(took, 50):6.2f} s   p99 {p99[name]:6.2f} s   ratio {ratio:5.2f}\n")
        sys.stdout.flush()
    return p99


if __name__ == "__main__":
    sys.exit(main())
