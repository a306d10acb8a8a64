"""report.html and receipt.json, each by rename."""

from __future__ import annotations

from pathlib import Path

from .files import write_by_rename, write_json
from .page import page
from .run_report import RunReport


def write_report(path: Path, report: RunReport) -> None:
    """One self-contained HTML file. Raises OSError."""
    write_by_rename(path, page(report).encode())


def write_receipt(path: Path, report: RunReport) -> None:
    """receipt.json. Raises OSError."""
    write_json(path, report.receipt_document())
