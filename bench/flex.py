"""NORMAL for a day on which flex has no capacity a third of the time: ``make bench-flex``.

Tasks come evenly; flex is gone for two, four and two hours. Measured: the share answered on flex, the deadlines met,
and the dollars against all on default. Exits 1 where a deadline was missed or a task was not answered.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from lowtide.core.lanes import Lane
from lowtide.core.tasks import TaskState
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario, Window, WindowKind

from .crowd import Crowd, gather

HOUR_S = 3_600
MODEL = "gpt-6.1-terra"
"""One that has flex."""

DAY_H = 24
GONE_H = ((2, 4), (9, 13), (19, 21))
"""From which hour to which flex has no capacity: a third of the day, once for longer than a deadline reaches."""

LATENCY = Latencies(
    default=Latency(min_s=2.0, max_s=20.0), flex=Latency(min_s=5.0, max_s=60.0, slow_share=0.02, slow_s=200.0)
)
"""Flex is slower than default, and sometimes much slower."""

LONGEST_S = 2 * HOUR_S
"""After the last task came."""


@dataclass(frozen=True, slots=True)
class Figures:
    """``cost_usd`` of all attempts; ``default_usd``: the same answers, all on default. ``latest_s``: what the task that
    came nearest to its deadline had left, below zero where it missed it. ``calls`` in all, refused ones included."""

    tasks: int
    answered: int
    on_flex: int
    met: int
    latest_s: float
    calls: int
    cost_usd: Decimal
    default_usd: Decimal

    @property
    def good(self) -> bool:
        return self.answered == self.met == self.tasks


def measure(
    directory: Path,
    *,
    per_hour: int,
    functions: int = 2,
    hours: float = DAY_H,
    gone_h: Sequence[tuple[float, float]] = GONE_H,
) -> Figures:
    """So many tasks an hour, for ``hours``; ``gone_h``: when flex has no capacity, in hours from the start."""
    windows = tuple(
        Window(kind=WindowKind.NO_FLEX, from_s=begins * HOUR_S, to_s=ends * HOUR_S) for begins, ends in gone_h
    )
    tasks = round(per_hour * hours)

    async def story(crowd: Crowd) -> Figures:
        fed = asyncio.create_task(_feed(crowd, tasks, HOUR_S / per_hour))
        longest_s = hours * HOUR_S + LONGEST_S
        await crowd.work(functions, until=lambda: fed.done() and crowd.empty, longest_s=longest_s, functions=True)
        await fed
        rows = [row for row in crowd.engine.tasks.scan() if row.state is TaskState.ANSWERED]
        left_s = [(row.deadline_at - row.settled_at).total_seconds() for row in rows if row.settled_at is not None]
        total = crowd.total()
        return Figures(
            tasks,
            answered=len(rows),
            on_flex=Counter(row.lane for row in rows)[Lane.FLEX],
            met=sum(left >= 0 for left in left_s),
            latest_s=min(left_s, default=0.0),
            calls=crowd.calls,
            cost_usd=total.cost_usd,
            default_usd=total.list_cost_usd,
        )

    return gather(directory, Scenario(latency=LATENCY, windows=windows), story)


async def _feed(crowd: Crowd, tasks: int, every_s: float) -> None:
    for number in range(tasks):
        crowd.feed(1, first=number, model=MODEL, lane="auto")
        await crowd.clock.sleep(every_s)


def main() -> int:
    """Returns the exit code."""
    asked = argparse.ArgumentParser(prog="python -m bench.flex", description=__doc__)
    asked.add_argument("--per-hour", type=int, default=60, help="tasks")
    asked.add_argument("--functions", type=int, default=2, help="that may run at once (default: %(default)s)")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(Path(directory), per_hour=options.per_hour, functions=options.functions)
    sys.stdout.write(
        f"{figures.tasks} tasks in {DAY_H} h, flex without capacity for {sum(b - a for a, b in GONE_H)} h of it\n"
        f"answered {figures.answered}, on flex {figures.on_flex / figures.tasks:.1%}, "
        f"calls {figures.calls}\n"
        f"deadlines met {figures.met / figures.tasks:.2%}, the nearest with {figures.latest_s:.0f} s left\n"
        f"${figures.cost_usd:.4f} against ${figures.default_usd:.4f} all on default "
        f"({1 - figures.cost_usd / figures.default_usd:.1%} saved)\n"
    )
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
