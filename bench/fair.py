"""Two tenants on one tier: ``make bench-fair``.

One sends thousands of NORMAL tasks, the other ten a little later. Measured is how long the ten take from their sending
to their records, alone and beside the thousands.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .flood import scenario
from .tiers import Arrival, percentile, times

LATER_S = 30.0


def measure(directory: Path, *, per_minute: int, big: int, small: int) -> list[float]:
    """Seconds that each task of the small tenant took, ascending."""
    arrivals = [Arrival(LATER_S, "meeting_summary", "small", small, measured=True)]
    if big:
        arrivals.append(Arrival(0.0, "meeting_summary", "big", big, measured=False))
    return times(directory, scenario(per_minute), arrivals)


def main() -> int:
    """Returns the exit code."""
    asked = argparse.ArgumentParser(prog="python -m bench.fair", description=__doc__)
    asked.add_argument("--big", type=int, default=10_000)
    asked.add_argument("--small", type=int, default=10)
    asked.add_argument("--per-minute", type=int, default=1_200, help="the provider's limit")
    options = asked.parse_args()
    for name, big in (("alone", 0), (f"beside {options.big}", options.big)):
        with tempfile.TemporaryDirectory() as directory:
            took = measure(Path(directory), per_minute=options.per_minute, big=big, small=options.small)
        sys.stdout.write(
            f"{options.small} tasks {name:16}median {percentile(took, 50):6.2f} s   last {took[-1]:6.2f} s\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
