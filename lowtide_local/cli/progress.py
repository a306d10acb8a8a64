"""Progress of a run on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from lowtide.core.wording import span
from lowtide_local.run.onlooker import Onlooker, OpenBatch, Progress, Working

EVERY_S = 5.0
"""Shortest time between plain lines, in seconds."""

STILL_S = 60.0
"""Longest time between plain lines, also while nothing changes."""

SHARE = 0.1
"""Time between plain lines as a share of the run's time so far, within the two limits above."""

WINDOW_S = 300.0
"""Length of the window that a rate is measured over."""

SETTLED_S = 10.0
"""Shortest window that a rate is told from."""

SHOWN_BATCHES = 5
LONG_S, DAY_S = 120, 172_800

Now = Callable[[], float]


class Rate:
    """Rate of the last minutes, and a rough time left."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, at: float, done: int) -> None:
        # A batch's requests count before and after they are collected, never twice: what is done does not fall.
        done = max(done, self._seen[-1][1]) if self._seen else done
        if self._seen and at - self._seen[-1][0] < 1.0:
            self._seen[-1] = (self._seen[-1][0], done)
            return
        self._seen.append((at, done))
        while at - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()

    @property
    def per_s(self) -> float:
        """Tasks per second; 0.0 where nothing moved, or it is too early to say."""
        if not self._seen:
            return 0.0
        (began, before), (at, done) = self._seen[0], self._seen[-1]
        return (done - before) / (at - began) if at - began >= SETTLED_S else 0.0

    def text(self, left: int) -> str:
        """Return the rate and the time for ``left`` tasks; an empty text where no rate is known."""
        if not self.per_s:
            return ""
        a_minute = self.per_s * 60
        told = f"{self.per_s:,.0f} a second" if a_minute >= LONG_S else f"{a_minute:,.1f} a minute"
        left_s = left / self.per_s
        return told if left_s > DAY_S or not left else f"{told}, about {span(max(1.0, left_s))} left"


def done(progress: Progress) -> int:
    """Count tasks that have ended, and requests of open batches that the provider says are over."""
    return progress.answered + progress.dead + sum(batch.over for batch in progress.batches)


def counts(progress: Progress) -> str:
    so_far = "" if progress.fed else " so far"
    refused = f", {progress.refused:,} lines refused" if progress.refused else ""
    return f"{progress.answered} answered, {progress.dead} dead of {progress.accepted} accepted{so_far}{refused}"


def batch_line(batch: OpenBatch) -> str:
    """``batch_1 (gpt-6-luna): in_progress, 120 of 400 done, 3 failed``."""
    told = f"batch {batch.name} ({batch.model}): {batch.status}"
    if batch.completed is None:
        return f"{told}, {batch.requests} requests"
    failed = f", {batch.failed} failed" if batch.failed else ""
    return f"{told}, {batch.completed} of {batch.requests} done{failed}"


def working(work: Working) -> str:
    return f"{work.what}, {100 * work.done // work.whole} %" if work.whole else work.what


def silence(progress: Progress) -> str:
    return f"no contact for {span(progress.silent_s)}" if progress.silent_s >= STILL_S else ""


class Lines:
    """Plain lines: one when the file is read, then one whenever something has changed, ever more rarely."""

    def __init__(self, now: Now = time.monotonic) -> None:
        self._now = now
        self._began = self._at = now()
        self._said: tuple[str, ...] = ()
        self._fed = False
        self._rate = Rate()

    def progress(self, progress: Progress) -> None:
        now = self._now()
        if progress.working is not None:
            if now - self._at >= EVERY_S:
                self._at = now
                _say(working(progress.working))
            return
        self._rate.note(now, done(progress))
        said = (counts(progress), *map(batch_line, progress.batches[:SHOWN_BATCHES]))
        pause = min(STILL_S, max(EVERY_S, SHARE * (now - self._began))) if said != self._said else STILL_S
        if progress.fed is self._fed and now - self._at < pause:
            return
        before, self._said, self._at, self._fed = self._said, said, now, progress.fed
        beside = (self._rate.text(progress.accepted - done(progress)) if progress.fed else "", silence(progress))
        _say("; ".join([said[0], *filter(None, beside)]))
        for line in said[1:]:
            if line not in before:
                _say(line)
        if (more := len(progress.batches) - SHOWN_BATCHES) > 0:
            _say(f"and {more} more batches")

    def notice(self, text: str) -> None:
        _say(text)


class Shown:
    """A bar for the tasks, and one below it for each of the first open batches."""

    def __init__(self, bar: Bar, line: TaskID, now: Now = time.monotonic) -> None:
        self._bar = bar
        self._line = line
        self._now = now
        self._rate = Rate()
        self._batches: dict[str, TaskID] = {}

    def progress(self, progress: Progress) -> None:
        if (work := progress.working) is not None:
            self._drop(self._batches.keys() - ())
            self._bar.update(
                self._line, description=escape(work.what), completed=work.done, total=work.whole or None, beside=""
            )
            return
        self._rate.note(self._now(), done(progress))
        beside = (
            self._rate.text(progress.accepted - done(progress))
            if progress.fed
            else f"{progress.accepted:,} accepted so far"
        )
        refused = f"{progress.refused:,} refused" if progress.refused else ""
        self._bar.update(
            self._line,
            description="answering" if progress.fed else "reading",
            completed=progress.answered + progress.dead,
            total=progress.accepted if progress.fed else None,
            beside=" · ".join(filter(None, (beside, refused, silence(progress)))),
        )
        shown = {batch.name: batch for batch in progress.batches[:SHOWN_BATCHES]}
        self._drop(self._batches.keys() - shown.keys())
        for name, batch in shown.items():
            if name not in self._batches:
                self._batches[name] = self._bar.add_task("", total=batch.requests, beside="")
            failed = f"{batch.failed} failed" if batch.failed else ""
            told = f"  {name} {batch.status}"
            self._bar.update(self._batches[name], description=escape(told), completed=batch.over, beside=failed)

    def notice(self, text: str) -> None:
        self._bar.console.print(escape(text), soft_wrap=True)

    def _drop(self, names: set[str]) -> None:
        for name in names:
            self._bar.remove_task(self._batches.pop(name))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


@contextmanager
def onlooker() -> Iterator[Onlooker]:
    """Choose bars where stderr is a terminal, plain lines otherwise."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[beside]}"),
    )
    with Bar(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        yield Shown(bar, bar.add_task("reading", total=None, beside=""))
