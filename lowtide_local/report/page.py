"""report.html: one file that a manager can read. No script, no network, no prompt, no answer; everything is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from decimal import Decimal
from html import escape
from importlib.resources import files

from lowtide.core.lanes import Lane
from lowtide.core.receipts import Share

from .figures import Money, bar, count, duration, share_pct
from .run_report import RunReport

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser itself is told to load nothing and to run nothing."""

LANE_NAMES = {
    Lane.BATCH: "Batch",
    Lane.FLEX: "Flex",
    Lane.DEFAULT: "Default",
    Lane.PRIORITY: "Priority",
}
"""From the cheapest to the dearest."""

KINDS = {"#": ' class="number"', "~": ' class="prose"'}

MARKS = {True: "\N{CHECK MARK} held", False: "\N{BALLOT X} did not hold"}
"""A word beside the sign: colour alone says nothing in print."""

UNKNOWN = "unknown"
"""Shown in place of dollars where no price is known."""

WHOLE_WIDTH = 640
"""Pixels, of the headline's bar; it shrinks with the page."""


def page(report: RunReport) -> str:
    """The whole document."""
    money = Money(report.receipt)
    style = files(__package__).joinpath("page.css").read_text()
    sections = (
        _headline(report, money),
        _reconciliation(report),
        _lanes(report, money),
        _tiers(report),
        _batches(report),
        _dead(report),
        _shares("Models", "Model", report.receipt.by_model, money, report.unpriced.get("by_model", {})),
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(report.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{_header(report, money)}{''.join(sections)}{_footer(report)}</main>\n</body>\n</html>\n"
    )


def _header(report: RunReport, money: Money) -> str:
    receipt = report.receipt
    outcomes = [f"{receipt.answered:,} answered", f"{receipt.dead:,} dead", f"{receipt.cancelled:,} cancelled"]
    beside = {"refused": receipt.refused, "duplicates": receipt.duplicates, "without a price": receipt.unpriced}
    outcomes += [f"{number:,} {what}" for what, number in beside.items() if number]
    if receipt.repaid:
        outcomes.append(f"{receipt.repaid:,} perhaps billed twice")
    if receipt.rescued:
        outcomes.append(f"{receipt.rescued:,} rescued from late batches for {money(receipt.premium_usd)} more")
    return (
        f"<header>\n<h1>{escape(report.title)}</h1>\n"
        f'<p class="outcomes">{count(receipt.tasks, "task")}: {", ".join(outcomes)}</p>\n</header>\n'
    )


def _headline(report: RunReport, money: Money) -> str:
    receipt = report.receipt
    saved = "Saved" if receipt.saved_usd >= 0 else "Spent above list"
    known = not _nothing_priced(receipt.tasks, receipt.unpriced)
    pct = f"{abs(receipt.saved_pct):.1f}\N{NO-BREAK SPACE}%"
    figures = (
        ("Paid", money(receipt.cost_usd) if known else UNKNOWN, ""),
        ("At list price", money(receipt.list_cost_usd) if known else UNKNOWN, ""),
        (saved, money(abs(receipt.saved_usd)) if known else UNKNOWN, "good" if receipt.saved_usd > 0 else ""),
        ("Of list price", pct if known else UNKNOWN, "good" if receipt.saved_usd > 0 else ""),
    )
    cards = "".join(
        f'<div class="figure {kind}"><dt>{name}</dt><dd>{value}</dd></div>\n' for name, value, kind in figures
    )
    label = f"{money(receipt.cost_usd)} paid of {money(receipt.list_cost_usd)} at list price"
    if receipt.unpriced:
        label = f"{count(receipt.unpriced, 'task')} without a known price" + (f"; the others: {label}" if known else "")
    whole = bar(receipt.cost_usd, receipt.list_cost_usd, label, width=WHOLE_WIDTH)
    told = None if report.prices is None else report.prices.told(report.finished_at.date())
    prices = "" if told is None else f'<p class="legend">Prices: {escape(told)}</p>\n'
    legend = f'<p class="legend">{label}</p>\n{prices}'
    return f'<section class="headline">\n<dl>\n{cards}</dl>\n{whole}\n{legend}</section>\n'


def _lanes(report: RunReport, money: Money) -> str:
    by_lane = report.receipt.by_lane
    named = {name: by_lane[lane.value] for lane, name in LANE_NAMES.items() if lane.value in by_lane}
    unpriced = report.unpriced.get("by_lane", {})
    return _shares(
        "Lanes", "Lane", named, money, {name: unpriced.get(lane.value, 0) for lane, name in LANE_NAMES.items()}
    )


def _shares(heading: str, kind: str, shares: Mapping[str, Share], money: Money, unpriced: Mapping[str, int]) -> str:
    def dollars(share: Share, amount: Decimal, without: int) -> str:
        if _nothing_priced(share.tasks, without):
            return UNKNOWN
        return money(amount) + (f" + {without:,}\N{NO-BREAK SPACE}{UNKNOWN}" if without else "")

    rows = [
        (
            escape(name),
            f"{share.tasks:,}",
            *(
                dollars(share, amount, unpriced.get(name, 0))
                for amount in (share.cost_usd, share.list_cost_usd, share.list_cost_usd - share.cost_usd)
            ),
            bar(share.cost_usd, share.list_cost_usd, "paid, of list price"),
        )
        for name, share in shares.items()
    ]
    columns = (kind, "#Tasks", "#Paid", "#List price", "#Saved", "Paid of list")
    return _section(heading, _table(columns, rows, none="Nothing was bought."))


def _tiers(report: RunReport) -> str:
    rows = [
        (
            escape(line.tier),
            f"{line.tasks:,}",
            duration(line.p50_s),
            duration(line.p95_s),
            f"{line.deadline_met:,} ({share_pct(line.deadline_met, line.tasks)})",
            bar(line.deadline_met, line.tasks, "deadlines met"),
        )
        for line in report.tiers
    ]
    columns = ("Tier", "#Tasks", "#Half within (p50)", "#95 % within (p95)", "#Deadlines met", "Met")
    return _section("Tiers", _table(columns, rows, none="No task was accepted."))


def _batches(report: RunReport) -> str:
    rows = [
        (
            f"<code>{escape(story.batch.batch_id)}</code>",
            escape(story.batch.model),
            f"{story.batch.requests:,}",
            f"{story.batch.answered:,}",
            f"{story.batch.failed:,}",
            escape(story.batch.status),
            duration(story.batch.seconds),
            escape(story.note),
        )
        for story in report.batches
    ]
    columns = ("Batch", "Model", "#Requests", "#Answered", "#Failed", "Ended", "#Took", "~What happened")
    return _section("Batches", _table(columns, rows, none="Nothing was batched."))


def _dead(report: RunReport) -> str:
    rows = [
        (f"<code>{escape(reason.code)}</code>", f"{reason.count:,}", escape(reason.example)) for reason in report.dead
    ]
    return _section("Dead letters", _table(("Reason", "#Tasks", "~For example"), rows, none="None."))


def _reconciliation(report: RunReport) -> str:
    verdict = "Everything adds up." if report.reconciled else "Not everything adds up."
    lines = "".join(
        f'<li class="{"held" if check.held else "broken"}"><span class="mark">{MARKS[check.held]}</span> '
        f'<span>{escape(check.name)} <span class="detail">{escape(check.detail)}</span></span></li>\n'
        for check in report.checks
    )
    lines += "".join(
        f'<li class="open"><span class="mark">? not checked</span> '
        f'<span>{escape(each.name)} <span class="detail">{escape(each.why)}</span></span></li>\n'
        for each in report.unchecked
    )
    body = f"<p>{verdict}</p>\n<ul>\n{lines}</ul>\n" if report.checks else "<p>Nothing was checked.</p>\n"
    return _section("Reconciliation", body, kind="checks")


def _nothing_priced(tasks: int, unpriced: int) -> bool:
    return 0 < tasks == unpriced


def _footer(report: RunReport) -> str:
    finished = report.finished_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    versions = "".join(f" · {escape(name)} {escape(version)}" for name, version in report.versions.items())
    return f"<footer>Finished {finished}{versions}</footer>\n"


def _section(heading: str, body: str, *, kind: str = "") -> str:
    return f'<section class="{kind}">\n<h2>{heading}</h2>\n{body}</section>\n'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, none: str) -> str:
    """Cells are HTML. A heading that begins with ``#`` is of numbers, set to the right; with ``~``, of text that may
    run over several lines."""
    kinds = [KINDS.get(column[0], "") for column in columns]
    head = "".join(
        f'<th scope="col"{kind}>{column.lstrip("#~")}</th>' for kind, column in zip(kinds, columns, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>\n"
        for row in rows
    )
    if not body:
        return f'<p class="none">{none}</p>\n'
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n'
