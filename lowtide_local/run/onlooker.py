"""Who waits for a run, and what it is told meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of tasks while a run goes on. ``fed`` is false while the file is still being read."""

    accepted: int
    answered: int
    dead: int
    fed: bool


class Onlooker(Protocol):
    def progress(self, progress: Progress) -> None:
        """Called several times a second."""
        ...

    def notice(self, text: str) -> None:
        """One line about something that may take long, or needs a person."""
        ...
