"""``python -m tests.sweep``: plays N schedules, prints what they came to, exits 1 where a promise was broken."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import os
import sys

from tests.sweep.campaign import chosen, sweep
from tests.sweep.ground import Ground, grounds
from tests.sweep.hunt import HEAD, HUNTED, hunts, removal, without
from tests.sweep.kills import kills
from tests.sweep.play import Play
from tests.sweep.schedules import named

MANY = 5_000
SEED = 20_260_302
RULES_SEED = 5
TOLD = 20
"""Failures that are printed; the last line counts them all."""


def main() -> int:
    options = _options()
    if options.rules:
        return _hunted(options.hunted, options.processes)
    if options.replay:
        return _replayed(options.replay, options.without)
    if options.consumer:
        found = kills()
        _tell(found.failures)
        print(found)
        return 1 if found.failures else 0
    names = chosen(options.n, options.seed)
    figures = sweep(names, options.processes, _progress if sys.stderr.isatty() else _quietly)
    _tell(figures.failures)
    print(figures)
    return 1 if figures.failures else 0


def _hunted(many: int, processes: int) -> int:
    print(*HEAD, sep="\n")
    unexpected = 0
    for found in hunts(RULES_SEED, many, processes):
        unexpected += not found.as_expected
        print(found, flush=True)
    return 1 if unexpected else 0


def _tell(failures: list[tuple[str, str]]) -> None:
    for name, fault in sorted(failures)[:TOLD]:
        print(f"{name}: {fault}\n    again: make sweep REPLAY={name}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sweep", description=__doc__)
    parser.add_argument("-n", type=int, default=MANY, help="schedules; each single crash first (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of those that are drawn (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one per core")
    parser.add_argument("--replay", metavar="NAME", help="plays one schedule and prints every call")
    parser.add_argument("--without", metavar="RULE", help="with --replay: as --rules plays it, without this rule")
    parser.add_argument("--rules", action="store_true", help="the table of what happens without each rule")
    parser.add_argument("--consumer", action="store_true", help="a consumer killed at every call, and what that cost")
    parser.add_argument(
        "--hunted", type=int, default=HUNTED, help="with --rules: schedules each (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.without and not options.replay:
        parser.error("--without goes with --replay; --rules plays all of them")
    try:
        if options.replay:
            named(options.replay)
        if options.without:
            removal(options.without)
    except ValueError as error:
        parser.error(str(error))
    return options


def _replayed(name: str, rule: str | None) -> int:
    with grounds() as home, Ground(home) as ground:
        schedule = named(name)
        outcome = without(removal(rule), schedule, ground, print) if rule else Play(schedule, ground, trace=print).run()
    print(schedule)
    for fault in outcome.faults:
        print(fault)
    print(f"{len(outcome.calls)} calls, {outcome.crashes} crashes, {len(outcome.faults)} broken promises")
    return 1 if outcome.faults else 0


def _progress(done: int, of: int) -> None:
    print(f"\r{done:,} of {of:,} schedules", end="\n" if done == of else "", file=sys.stderr, flush=True)


def _quietly(done: int, of: int) -> None:
    """Not into a log."""


if __name__ == "__main__":
    sys.exit(main())
