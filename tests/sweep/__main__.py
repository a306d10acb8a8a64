"""``python -m tests.sweep``: plays N schedules, prints what they came to, exits 1 where a promise was broken.

Cut off by SIGINT or SIGTERM it prints what the schedules so far came to and how to go on, and exits with 128 and the
signal's number.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import os
import signal
import sys

from tests.sweep import kills
from tests.sweep.campaign import CutOff, Figures, campaign, chosen, heeding_signals, played
from tests.sweep.ground import Ground, grounds
from tests.sweep.hunt import HEAD, HUNTED, hunts, removal, without
from tests.sweep.kills import Kills
from tests.sweep.play import Play
from tests.sweep.schedules import named

MANY = 5_000
MANY_CONSUMERS = 1_200
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
    return _swept(options)


def _swept(options: argparse.Namespace) -> int:
    """Figures in the order of the schedules: those of the first so many, where it is cut off."""
    sums = Kills() if options.consumer else Figures()
    names: list[str] = []
    cut_off: CutOff | None = None
    try:
        with heeding_signals():
            choose = kills.chosen if options.consumer else chosen
            names = choose(options.n, options.seed)[options.start :]
            progress = _progress if sys.stderr.isatty() else _quietly
            if isinstance(sums, Kills):
                campaign(kills.played, names, sums, options.processes, progress)
            else:
                campaign(played, names, sums, options.processes, progress)
    except CutOff as signalled:
        cut_off = signalled
    _tell(sums.failures)
    print(sums)
    if cut_off is not None:
        goal = "sweep-consumer" if options.consumer else "sweep"
        done = options.start + sums.schedules
        print(
            f"cut off by {signal.Signals(cut_off.number).name} after {sums.schedules:,} of {len(names):,} schedules of "
            f"seed {options.seed}; to go on: make {goal} N={options.n} SEED={options.seed} FROM={done}"
        )
    if sums.failures:
        return 1
    return 0 if cut_off is None else 128 + cut_off.number


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
    parser.add_argument("-n", type=int, help=f"schedules, single ones first (default: {MANY}, or {MANY_CONSUMERS})")
    parser.add_argument("--seed", type=int, default=SEED, help="of those that are drawn (default: %(default)s)")
    parser.add_argument("--from", type=int, default=0, dest="start", help="schedules to pass over: they were played")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one per core")
    parser.add_argument("--replay", metavar="NAME", help="plays one schedule and prints every call")
    parser.add_argument("--without", metavar="RULE", help="with --replay: as --rules plays it, without this rule")
    parser.add_argument("--rules", action="store_true", help="the table of what happens without each rule")
    parser.add_argument("--consumer", action="store_true", help="consumers killed and refused at every call")
    parser.add_argument(
        "--hunted", type=int, default=HUNTED, help="with --rules: schedules each (default: %(default)s)"
    )
    options = parser.parse_args()
    options.n = options.n if options.n is not None else MANY_CONSUMERS if options.consumer else MANY
    if options.n < 1 or options.start < 0:
        parser.error("-n is at least 1, and --from at least 0")
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
    print(
        f"{len(outcome.calls)} calls, {outcome.crashes} crashes, {outcome.raised} raised, "
        f"{len(outcome.faults)} broken promises"
    )
    return 1 if outcome.faults else 0


def _progress(done: int, of: int) -> None:
    print(f"\r{done:,} of {of:,} schedules", end="\n" if done == of else "", file=sys.stderr, flush=True)


def _quietly(done: int, of: int) -> None:
    """Not into a log."""


if __name__ == "__main__":
    sys.exit(main())
