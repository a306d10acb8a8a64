"""What a run checks: said as it goes, and in one table at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    held: bool
    detail: str
    at_s: float


class Findings:
    """``check`` notes a finding and goes on: one run shows all that is wrong."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._found: list[Finding] = []

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def failed(self) -> list[Finding]:
        return [finding for finding in self._found if not finding.held]

    def say(self, step: str) -> None:
        self._console.print(f"{self.seconds:6.1f} s  {step}", highlight=False, markup=False, soft_wrap=True)

    def check(self, name: str, held: object, detail: object = "") -> bool:
        """``held`` counts as true or false. Returns it."""
        finding = Finding(name, bool(held), str(detail), self.seconds)
        self._found.append(finding)
        self.say(f"{'ok    ' if finding.held else 'FAILED'} {name}{f': {finding.detail}' if finding.detail else ''}")
        return finding.held

    def equal(self, name: str, found: object, expected: object) -> bool:
        same = found == expected
        return self.check(name, same, found if same else f"found {found}, expected {expected}")

    def show(self) -> None:
        table = Table("at", "", "checked", "found")
        for finding in self._found:
            table.add_row(f"{finding.at_s:.0f} s", "ok" if finding.held else "FAILED", finding.name, finding.detail)
        self._console.print(table, markup=False)
        bad = len(self.failed)
        self._console.print(f"{len(self._found) - bad} checks held, {bad} failed, in {self.seconds:.0f} s")
