"""Who waits for a run, and what it is told meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that is not done.

    ``name`` is the provider's id once there is one. ``status`` is the provider's word, or ours before that.
    ``completed`` and ``failed`` are the provider's counts, None where it gives none.
    """

    name: str
    model: str
    status: str
    requests: int
    completed: int | None = None
    failed: int | None = None

    @property
    def over(self) -> int:
        """Requests that are over, as far as the provider says."""
        return min(self.requests, (self.completed or 0) + (self.failed or 0))


@dataclass(frozen=True, slots=True)
class Working:
    """Work on files before the first task and after the last one: ``done`` of ``whole`` bytes or tasks."""

    what: str
    done: int = 0
    whole: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of tasks while a run goes on.

    ``fed`` is false while the file is still being read. ``silent_s`` is how long the provider could not be reached.
    ``working`` is set while files are read or written and nothing is answered.
    """

    accepted: int = 0
    answered: int = 0
    dead: int = 0
    fed: bool = False
    refused: int = 0
    batches: tuple[OpenBatch, ...] = ()
    silent_s: float = 0.0
    working: Working | None = None


class Onlooker(Protocol):
    def progress(self, progress: Progress) -> None:
        """Called several times a second."""
        ...

    def notice(self, text: str) -> None:
        """One line about something that may take long, or needs a person."""
        ...
