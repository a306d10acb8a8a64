"""Peak memory of a big batch: ``make bench-memory``. Each phase runs in a process of its own, and is measured there.

Prints a line per phase, and exits 1 where assembling or collecting took more than ``--limit-mb`` above what the
process took once everything was imported.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from typing import Any

MB = 1_000_000
MEASURED = ("assemble", "collect")


def main() -> int:
    """Returns the exit code."""
    asked = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    asked.add_argument("--tasks", type=int, default=50_000)
    asked.add_argument("--task-bytes", type=int, default=4_096)
    asked.add_argument("--output-mb", type=int, default=400)
    asked.add_argument("--turn-s", type=int, default=0, help="stop collecting every so many seconds and go on")
    asked.add_argument("--limit-mb", type=float, default=64)
    options = asked.parse_args()
    highest = 0.0
    with tempfile.TemporaryDirectory() as directory:
        for phase in ("feed", "assemble", "answer", "collect"):
            began = time.monotonic()
            report = _run(phase, directory, options)
            above = (report.pop("peak") - (baseline := report.pop("baseline"))) / MB
            took = f"{time.monotonic() - began:6.1f} s"
            print(f"{phase:10}{took}  baseline {baseline / MB:5.1f} MB  above it {above:6.1f} MB  {json.dumps(report)}")
            if phase in MEASURED:
                highest = max(highest, above)
    held = highest <= options.limit_mb
    print(f"{'held' if held else 'BROKEN'}: {highest:.1f} MB above the import baseline, of {options.limit_mb:g} MB")
    return 0 if held else 1


def _run(phase: str, directory: str, options: argparse.Namespace) -> dict[str, Any]:
    numbers = (options.tasks, options.task_bytes, options.output_mb * MB, options.turn_s)
    command = [sys.executable, "-m", "bench.memory_phases", phase, directory, *map(str, numbers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 (what it runs is above)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    raise SystemExit(main())
