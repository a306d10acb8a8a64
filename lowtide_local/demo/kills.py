"""The process killed at the worst moments: each a crash right after a call took effect, before anyone could note it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lowtide_local.engine.crashes import Crash, CrashPlan, Side


@dataclass(frozen=True, slots=True)
class Kill:
    """Dies right after the ``nth`` call named ``call`` (in one life) of which one named ``behind`` came just before."""

    call: str
    nth: int
    told: str
    behind: str | None = None


KILLS = (
    Kill("batch_apis.openai.create", 1, "a batch was created, and its id not yet written down"),
    Kill("tasks.apply", 1, "half of a batch's answers were filed", behind="batch_apis.openai.results"),
    Kill("answers.openai.answer", 60, "calls were in flight"),
)

NEAR = 4
"""How many calls back ``behind`` is looked for."""


class Fate(CrashPlan):
    """One life, ended by ``kill`` or not at all."""

    def __init__(self, kill: Kill | None) -> None:
        super().__init__()
        self._kill = kill
        self._seen = 0

    def _die_if(self, number: int, side: Side, name: str) -> None:
        kill = self._kill
        if kill is None or side is Side.BEFORE or name != kill.call or not _behind(self.calls[:number], kill.behind):
            return
        self._seen += 1
        if self._seen == kill.nth:
            self.crashed = True
            raise Crash(kill.told)


def _behind(calls: Sequence[str], behind: str | None) -> bool:
    return behind is None or behind in calls[-NEAR:]
