"""A run's report on a terminal: tiers, batches, dead letters, receipt, reconciliation."""

from __future__ import annotations

from decimal import Decimal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lowtide.core.model import usd_text
from lowtide.core.receipts import Share
from lowtide_local.report.run_report import RunReport
from lowtide_local.run.records import ALL_ANSWERED

WIDE = 110
"""Columns from which a terminal has room for whole batch ids. They are in receipt.json and report.html in any case."""

ID_CHARACTERS = 15
EXAMPLE_CHARACTERS = 160

UNKNOWN = "unknown"
"""Shown in place of dollars where no price is known."""

TEXT = frozenset({"tier", "lane", "batch", "model", "status", "code", "for example", "reason"})
"""Columns that are read from the left; numbers stand under each other on the right."""


def print_summary(report: RunReport, console: Console | None = None) -> None:
    """Plain text where there is no terminal: rich leaves colours out."""
    out = console or Console(highlight=False)
    if report.tiers:
        out.print(_tiers(report), "")
    if report.batches:
        _print_batches(report, out)
    if report.refused:
        out.print(_refused(report), "")
    if report.dead:
        out.print(_dead(report), "")
    out.print(_receipt(report), "")
    out.print(_counts(report), soft_wrap=True)
    if report.prices is not None:
        out.print(f"prices: {escape(report.prices.told(report.finished_at.date()))}", soft_wrap=True)
    for check in report.checks:
        mark = "[green]holds[/]" if check.held else "[bold red]FAILS[/]"
        out.print(f"{mark}  {escape(check.name)} [dim]({escape(check.detail)})[/]", soft_wrap=True)
    for missing in report.unchecked:
        out.print(f"[yellow]not checked[/]  {escape(missing.name)} [dim]({escape(missing.why)})[/]", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        # Prose wraps at spaces; what a person compares or copies stays in one piece.
        table.add_column(
            column,
            justify="left" if column in TEXT else "right",
            no_wrap=column not in ("for example", "reason"),
            overflow="ellipsis",
        )
    return table


def _tiers(report: RunReport) -> Table:
    table = _table("Tiers", "tier", "tasks", "p50", "p95", "in time")
    for line in report.tiers:
        table.add_row(line.tier, str(line.tasks), _span(line.p50_s), _span(line.p95_s), str(line.deadline_met))
    return table


def _print_batches(report: RunReport, out: Console) -> None:
    """What befell a batch has a line of its own below the table: there is no room for prose beside its numbers."""
    table = _table("Batches", "batch", "model", "answered", "status", "took")
    stories = [(_shown(story.batch.batch_id, out.width), story) for story in report.batches]
    for shown, story in stories:
        line = story.batch
        table.add_row(
            escape(shown),
            escape(line.model),
            f"{line.answered} of {line.requests}",
            escape(line.status),
            _span(line.seconds),
        )
    out.print(table)
    for shown, story in stories:
        if story.note not in ("", ALL_ANSWERED):
            out.print(f"{escape(shown)}: {escape(story.note)}", soft_wrap=True)
    out.print()


def _shown(batch_id: str, width: int) -> str:
    """Both ends, which is where ids differ, where there is no room for all of it."""
    if width >= WIDE or len(batch_id) <= ID_CHARACTERS:
        return batch_id
    return f"{batch_id[: ID_CHARACTERS - 5]}…{batch_id[-4:]}"


def _dead(report: RunReport) -> Table:
    table = _table("Dead letters", "code", "tasks", "for example")
    for reason in report.dead:
        table.add_row(escape(reason.code), str(reason.count), escape(_short(reason.example)))
    return table


def _short(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 1] + "…"


def _refused(report: RunReport) -> Table:
    """Show the first refused lines. refused.jsonl has all of them."""
    more = report.receipt.refused - len(report.refused)
    table = _table(
        f"Refused lines{f' (and {more} more in refused.jsonl)' if more > 0 else ''}", "line", "code", "reason"
    )
    for each in report.refused:
        table.add_row(str(each.line), escape(each.code), escape(_short(each.message)))
    return table


def _receipt(report: RunReport) -> Table:
    """Show the costs per lane, with a column for tasks without a known price where there are any."""
    receipt, some = report.receipt, bool(report.receipt.unpriced)
    table = _table("Receipt", "lane", "tasks", "paid", "list price", "saved", *(["unpriced"] if some else []))
    unpriced = report.unpriced.get("by_lane", {})
    rows = [(name, share, unpriced.get(name, 0), "") for name, share in receipt.by_lane.items()]
    every = Share(tasks=receipt.tasks, cost_usd=receipt.cost_usd, list_cost_usd=receipt.list_cost_usd)
    rows.append(("[bold]all[/]", every, receipt.unpriced, f" ({receipt.saved_pct} %)"))
    for name, share, without, beside in rows:
        money = [_usd(share.cost_usd), _usd(share.list_cost_usd), _usd(share.list_cost_usd - share.cost_usd) + beside]
        if 0 < share.tasks == without:
            money = [UNKNOWN] * len(money)
        table.add_row(name, str(share.tasks), *money, *([str(without)] if some else []))
    return table


def _counts(report: RunReport) -> str:
    receipt = report.receipt
    rescued = f"; {receipt.rescued} rescued for {_usd(receipt.premium_usd)} over a batch" if receipt.rescued else ""
    return (
        f"{receipt.answered} answered, {receipt.dead} dead, {receipt.cancelled} cancelled, {receipt.refused} refused, "
        f"{receipt.duplicates} duplicates, {receipt.repaid} repaid, {receipt.unpriced} unpriced{rescued}"
    )


def _usd(amount: Decimal) -> str:
    return f"${usd_text(amount)}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:  # noqa: PLR2004 - two minutes read better in seconds
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004
