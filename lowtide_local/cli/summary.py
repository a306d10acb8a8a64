"""A run's report on a terminal: tiers, batches, dead letters, receipt, reconciliation."""

from __future__ import annotations

from decimal import Decimal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lowtide.core.model import usd_text
from lowtide_local.report.run_report import RunReport


def print_summary(report: RunReport, console: Console | None = None) -> None:
    """Plain text where there is no terminal: rich leaves colours out."""
    out = console or Console(highlight=False)
    if report.tiers:
        out.print(_tiers(report))
    if report.batches:
        out.print(_batches(report))
    if report.dead:
        out.print(_dead(report))
    out.print(_receipt(report))
    for check in report.checks:
        mark = "[green]holds[/]" if check.held else "[bold red]FAILS[/]"
        out.print(f"{mark}  {escape(check.name)} [dim]({escape(check.detail)})[/]", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return table


def _tiers(report: RunReport) -> Table:
    table = _table("Tiers", "tier", "tasks", "p50", "p95", "in time")
    for line in report.tiers:
        table.add_row(line.tier, str(line.tasks), _span(line.p50_s), _span(line.p95_s), str(line.deadline_met))
    return table


def _batches(report: RunReport) -> Table:
    table = _table("Batches", "batch", "model", "requests", "answered", "status", "took", "what happened")
    for story in report.batches:
        line = story.batch
        table.add_row(
            escape(line.batch_id),
            escape(line.model),
            str(line.requests),
            str(line.answered),
            escape(line.status),
            _span(line.seconds),
            escape(story.note),
        )
    return table


def _dead(report: RunReport) -> Table:
    table = _table("Dead letters", "code", "tasks", "for example")
    for reason in report.dead:
        table.add_row(escape(reason.code), str(reason.count), escape(reason.example[:80]))
    return table


def _receipt(report: RunReport) -> Table:
    receipt = report.receipt
    table = _table("Receipt", "lane", "tasks", "paid", "list price", "saved")
    for name, share in receipt.by_lane.items():
        saved = share.list_cost_usd - share.cost_usd
        table.add_row(name, str(share.tasks), _usd(share.cost_usd), _usd(share.list_cost_usd), _usd(saved))
    table.add_row(
        "[bold]all[/]",
        str(receipt.tasks),
        _usd(receipt.cost_usd),
        _usd(receipt.list_cost_usd),
        f"{_usd(receipt.saved_usd)} ({receipt.saved_pct} %)",
    )
    counts = (
        f"{receipt.answered} answered, {receipt.dead} dead, {receipt.cancelled} cancelled, {receipt.refused} refused, "
        f"{receipt.duplicates} duplicates, {receipt.repaid} repaid, {receipt.unpriced} unpriced"
    )
    table.caption, table.caption_justify = counts, "left"
    return table


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
