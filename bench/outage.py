"""An outage of the provider at full load: ``make bench-outage``.

Tasks wait in a queue, consumers call as fast as the provider lets them, and for ten minutes it answers nothing but 503.
Measured: tasks lost, tasks dead, tries used up, calls made in vain, and how long after its end all tasks are answered.
Exits 1 where one was lost or died.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lowtide.core.tasks import TaskState
from lowtide_local.simulator.scenario import Latencies, Latency, RateLimit, Scenario, Window, WindowKind

from .crowd import MODEL, Crowd, gather

LONGEST_S = 4 * 3600


@dataclass(frozen=True, slots=True)
class Figures:
    """``struck``: tries that the outage used up. ``in_vain``: calls made while the provider was down.
    ``first_s``, ``drained_s``: seconds from its end to the first answer, and to the last. ``ideal_s``: what the tasks
    left over take at the provider's limit."""

    tasks: int
    lost: int
    dead: int
    struck: int
    in_vain: int
    first_s: float
    drained_s: float
    ideal_s: float


def measure(
    directory: Path, *, per_minute: int, tasks: int, consumers: int, from_s: int = 60, outage_s: int = 600
) -> Figures:
    end_s = from_s + outage_s
    scenario = Scenario(
        latency=Latencies(default=Latency(min_s=0.5, max_s=2.0)),
        limits={MODEL: RateLimit(requests_per_minute=per_minute, burst_s=1)},
        windows=(Window(kind=WindowKind.OUTAGE, from_s=from_s, to_s=end_s),),
    )

    async def story(crowd: Crowd) -> Figures:
        began = crowd.clock.now()
        crowd.feed(tasks)

        def passed_s() -> float:
            return (crowd.clock.now() - began).total_seconds()

        await crowd.work(consumers, until=lambda: crowd.empty, longest_s=LONGEST_S)
        drained_s = passed_s() - end_s
        rows = list(crowd.engine.tasks.scan())
        settled = [row for row in rows if row.state in (TaskState.ANSWERED, TaskState.DEAD)]
        after = [(line.at - began).total_seconds() - end_s for line in crowd.provider.billed]
        left = [moment for moment in after if moment >= 0]
        return Figures(
            tasks,
            lost=tasks - len(settled),
            dead=sum(row.state is TaskState.DEAD for row in rows),
            struck=sum(row.strikes.failures for row in rows),
            in_vain=crowd.calls - crowd.provider.limited - len(after),
            first_s=min(left, default=0.0),
            drained_s=drained_s,
            ideal_s=len(left) / per_minute * 60,
        )

    return gather(directory, scenario, story)


def main() -> int:
    """Returns the exit code."""
    asked = argparse.ArgumentParser(prog="python -m bench.outage", description=__doc__)
    asked.add_argument("--per-minute", type=int, default=300, help="the provider's limit")
    asked.add_argument("--tasks", type=int, default=1_500)
    asked.add_argument("--consumers", type=int, default=8)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(
            Path(directory), per_minute=options.per_minute, tasks=options.tasks, consumers=options.consumers
        )
    sys.stdout.write(
        f"{figures.tasks} tasks, {options.consumers} consumers, {options.per_minute} calls a minute, "
        "an outage of 10 minutes\n"
        f"lost {figures.lost}, dead {figures.dead}, tries used up {figures.struck}, "
        f"calls in vain {figures.in_vain}\n"
        f"first answer {figures.first_s:.0f} s after its end, all answered after {figures.drained_s:.0f} s "
        f"({figures.ideal_s:.0f} s at the provider's limit)\n"
    )
    return 0 if figures.lost == 0 and figures.dead == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
