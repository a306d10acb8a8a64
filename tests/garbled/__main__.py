"""Fuzz: ``make fuzz``. Task lines, deliveries to ingest, lines of a batch's output and routes files, none of which
anybody should write; what crashed, and which of their neighbours were harmed.

The same seed makes the same input. A failure prints its kind and number; ``--only KIND:NUMBER`` plays that one again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tests.garbled.check_routes import RoutesCheck
from tests.garbled.check_tasks import AT_ONCE, check_deliveries, check_lines
from tests.garbled.routes import routes_file
from tests.garbled.test_garbled_files import read

Check = Callable[[int, str, Path], Counter[str]]


def outputs(number: int, seed: str, _directory: Path) -> Counter[str]:
    ends = read(number, seed)
    return Counter(lines=ends["lines"], answered=ends["Answered"], buried=ends["Bury"], again=ends["NoneType"])


def routes() -> Check:
    check = RoutesCheck()
    return lambda number, seed, _: Counter([check(routes_file(Random(f"{seed} routes {number}")))])


def main() -> int:
    """Returns the exit code: 1 where anything crashed, or a neighbour was harmed."""
    asked = argparse.ArgumentParser(prog="python -m tests.garbled", description=__doc__)
    for kind in ("lines", "deliveries", "outputs", "routes"):
        asked.add_argument(f"--{kind}", type=int, default=10_000)
    asked.add_argument("--seed", default="1")
    asked.add_argument("--only", help="KIND:NUMBER")
    options = asked.parse_args()
    checks: dict[str, tuple[Check, Iterator[int]]] = {
        "lines": (check_lines, iter(range(-(-options.lines // AT_ONCE)))),
        "deliveries": (check_deliveries, iter(range(-(-options.deliveries // AT_ONCE)))),
        "outputs": (outputs, iter(range(options.outputs))),
        "routes": (routes(), iter(range(options.routes))),
    }
    if options.only is not None:
        kind, _, number = options.only.partition(":")
        checks = {kind: (checks[kind][0], iter([int(number)]))}
    failed = 0
    for kind, (check, numbers) in checks.items():
        failed += _fuzz(kind, check, numbers, options.seed, getattr(options, kind))
    return 1 if failed else 0


def _fuzz(kind: str, check: Check, numbers: Iterator[int], seed: str, wanted: int) -> int:
    began, ends, crashes, harmed = time.process_time(), Counter[str](), 0, 0
    for number in numbers:
        if kind == "outputs" and ends["lines"] >= wanted:
            break
        with tempfile.TemporaryDirectory() as directory:
            try:
                ends += check(number, seed, Path(directory))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and told
                cause: BaseException = error
                while isinstance(cause, BaseExceptionGroup):
                    cause = cause.exceptions[0]
                harmed += isinstance(cause, AssertionError)
                crashes += not isinstance(cause, AssertionError)
                sys.stderr.write(f"--seed {seed} --only {kind}:{number}\n")
                traceback.print_exception(cause, file=sys.stderr)
    told = ", ".join(f"{amount} {what}" for what, amount in sorted(ends.items()))
    took = f"{time.process_time() - began:.0f} s of CPU"
    sys.stdout.write(f"{kind:10} {crashes} crashes, {harmed} harmed; {told}; {took}\n")
    sys.stdout.flush()
    return crashes + harmed


if __name__ == "__main__":
    raise SystemExit(main())
