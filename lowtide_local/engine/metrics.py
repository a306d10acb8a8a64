"""Metrics kept in memory: for the embedded engine and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock


@dataclass(frozen=True, slots=True)
class Logged:
    event: str
    fields: Mapping[str, object]


@dataclass(slots=True)
class RecordedMetrics:
    """A ports.Metrics. ``lines`` are the log lines in order; ``total`` answers for the counts."""

    lines: list[Logged] = field(default_factory=list)
    _sums: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)
    _values: dict[tuple[str, frozenset[tuple[str, str]]], list[float]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        counted = (name, frozenset(dimensions.items()))
        with self._lock:
            self._sums[counted] = self._sums.get(counted, 0) + value

    def measure(self, name: str, value: float, **dimensions: str) -> None:
        with self._lock:
            self._values.setdefault((name, frozenset(dimensions.items())), []).append(value)

    def log(self, event: str, **fields: object) -> None:
        self.lines.append(Logged(event, fields))

    def total(self, name: str, **dimensions: str) -> float:
        """The sum of a metric over all counts that had these dimensions, and perhaps others."""
        wanted = dimensions.items()
        return sum(value for (counted, given), value in self._sums.items() if counted == name and wanted <= given)

    def values(self, name: str, **dimensions: str) -> list[float]:
        """What was measured with these dimensions, and perhaps others."""
        wanted = dimensions.items()
        kept = (values for (measured, given), values in self._values.items() if measured == name and wanted <= given)
        return [value for values in kept for value in values]

    def events(self) -> list[str]:
        """The names of what was logged, in order."""
        return [line.event for line in self.lines]
