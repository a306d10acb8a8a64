"""``lowtide dead redrive``: what it would cost, the question, the order, and what became of it."""

from __future__ import annotations

import sys
from collections import Counter
from enum import Enum, auto
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from lowtide.core.model import usd_text
from lowtide.steps.redrive import RedriveOutcome
from lowtide_local.operate.desk import Desk, opened
from lowtide_local.operate.estimate import Estimate, Share
from lowtide_local.operate.redriving import Preview, preview, redrive_all, told

from .dead import Which
from .operate import DEFAULT_TENANT
from .showing import console, print_json, row, table
from .stop import ExitCode, Stop, usage

_WHY = {
    RedriveOutcome.NOT_DEAD: "is not dead",
    RedriveOutcome.GONE: "died so long ago that its letter is gone: send it anew",
    RedriveOutcome.REFUSED: "is refused by the routes of today",
}
SHOWN = 10
"""Lines for those that cannot be redriven; --json has them all."""


class Consent(Enum):
    ASK = auto()
    GIVEN = auto()
    DRY_RUN = auto()


def dead_redrive_command(
    where: tuple[str | None, str | None], which: Which, consent: Consent, *, as_json: bool
) -> ExitCode:
    _check(which, consent, as_json=as_json)
    with opened(*where) as desk:
        found = _preview(desk, which)
        if not as_json:
            _show(found, console())
        if consent is Consent.ASK and found.names and not typer.confirm("Redrive them?", err=True):
            raise Stop("nothing was redriven")
        outcomes: Counter[RedriveOutcome] = Counter()
        if consent is not Consent.DRY_RUN:
            outcomes = _redrive(desk, found)
    if as_json:
        print_json(_document(found, outcomes))
    elif consent is not Consent.DRY_RUN and found.names:
        console().print(f"{outcomes[RedriveOutcome.SENT]} redriven")
    failed = len(found.left) + outcomes.total() - outcomes[RedriveOutcome.SENT]
    if failed:
        raise Stop(f"{failed} of {len(found.left) + len(found.names)} cannot be redriven")
    return ExitCode.DONE


def _check(which: Which, consent: Consent, *, as_json: bool) -> None:
    if which.names and (which.code or which.type or which.older_than or which.newer_than or which.every):
        raise usage("name the tasks, or say by filters which are meant; not both")
    if not (which.names or which.filters or which.every):
        raise usage("which ones? name tasks, give a filter (--code, --tenant, --type, --older-than, …), or --all")
    if consent is Consent.ASK and (as_json or not sys.stdin.isatty()):
        raise usage("nobody can be asked here; give --yes to redrive, or --dry-run to see what it would cost")


def _preview(desk: Desk, which: Which) -> Preview:
    if which.names:
        return preview(desk, [(which.tenant or DEFAULT_TENANT, name) for name in which.names], None)
    return preview(desk, which.wanted(desk.system.clock.now()), which.limit)


def _redrive(desk: Desk, found: Preview) -> Counter[RedriveOutcome]:
    done = 0

    def sent(number: int) -> None:
        nonlocal done
        done = number

    try:
        return redrive_all(desk, found.names, sent)
    except BaseException:
        # Even one that was interrupted: what it had begun is mended by nothing else.
        sys.stderr.write(f"cut off after {done} of {len(found.names)}: give the same order again to finish it\n")
        raise


def _show(found: Preview, out: Console) -> None:
    if found.names:
        out.print(_costs(found.estimate))
        total = found.estimate.total
        if total.unlimited:
            out.print(f"{total.unlimited} set no limit on their answer: what it will cost is in no sum")
        if total.unpriced:
            out.print(f"{total.unpriced} have no known price and are in no sum")
        for warning in found.estimate.document()["warnings"]:
            out.print(f"warning: {escape(warning)}", soft_wrap=True)
        if found.unsent:
            out.print(
                f"{found.unsent} were redriven before and not taken up since: they are sent again, and answered once"
            )
    elif not found.left:
        out.print("no dead task is like that")
    for name, outcome, reason in found.left[:SHOWN]:
        out.print(f"{escape(name[1])} {_WHY[outcome]}{escape(f': {reason}' if reason else '')}", soft_wrap=True)
    if len(found.left) > SHOWN:
        out.print(f"and {len(found.left) - SHOWN} more")


def _costs(estimate: Estimate) -> Any:
    """An answer costs between nothing and the limit that its task set."""
    shown = table(
        "What it would cost, estimated", "lane", "model", "tasks", "input tokens", "output, at most", "dollars"
    )
    for (lane, model), share in [*sorted(estimate.by_lane_and_model.items()), (("all", ""), estimate.total)]:
        row(shown, lane, model, share.tasks, share.input_tokens, share.output_tokens_at_most, _dollars(share))
    return shown


def _dollars(share: Share) -> str:
    if share.unknown:
        return "unknown"
    least, most = usd_text(share.least_usd), usd_text(share.most_usd)
    told = least if least == most else f"{least} to {most}"
    return f"{told} + {share.unpriced} unknown" if share.unpriced else told


def _document(found: Preview, outcomes: Counter[RedriveOutcome]) -> dict[str, Any]:
    return {
        "tasks": len(found.names),
        "sent_again": found.unsent,
        "estimate": found.estimate.document(),
        "redriven": outcomes[RedriveOutcome.SENT],
        "left": [told(*each) for each in found.left],
    }
