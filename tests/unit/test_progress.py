"""What a run says while it goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TextColumn

from lowtide_local.cli.progress import EVERY_S, STILL_S, Lines, Rate, Shown
from lowtide_local.run.onlooker import OpenBatch, Progress, Working


class Time:
    def __init__(self):
        self.s = 1_000.0

    def __call__(self):
        return self.s


@pytest.fixture
def now():
    return Time()


@pytest.fixture
def said(capsys):
    def lines():
        return capsys.readouterr().err.splitlines()

    return lines


BATCH = OpenBatch("batch_1", "gpt-5-mini", "in_progress", 400, completed=120, failed=3)


def test_a_rate_and_the_time_left_are_told_once_there_is_something_to_tell_them_from():
    rate = Rate()
    rate.note(0.0, 0)
    rate.note(5.0, 500)
    assert rate.text(1_000) == ""
    for second in range(6, 21):
        rate.note(float(second), 100 * second)
    assert rate.per_s == 100.0
    assert rate.text(90_000) == "100 a second, about 15 min left"
    assert rate.text(0) == "100 a second"
    slow = Rate()
    slow.note(0.0, 10)
    slow.note(120.0, 13)
    assert slow.text(30) == "1.5 a minute, about 20 min left"
    assert slow.text(30_000) == "1.5 a minute", "in weeks it says nothing"


def test_a_rate_is_of_the_last_minutes_and_never_below_zero():
    rate = Rate()
    for minute in range(60):
        rate.note(60.0 * minute, min(minute, 30) * 60)
    assert rate.per_s == 0.0
    assert rate.text(5) == ""
    rate.note(3_600.0, 5)
    assert rate.per_s == 0.0


def test_plain_lines_tell_what_is_accepted_so_far_then_each_batch_with_its_counts(now, said):
    lines = Lines(now)
    now.s += EVERY_S
    lines.progress(Progress(accepted=12_000, refused=2))
    assert said() == ["0 answered, 0 dead of 12000 accepted so far, 2 lines refused"]
    lines.progress(Progress(accepted=12_400, fed=True, batches=(BATCH,)))
    assert said() == [
        "0 answered, 0 dead of 12400 accepted",
        "batch batch_1 (gpt-5-mini): in_progress, 120 of 400 done, 3 failed",
    ]
    now.s += EVERY_S
    lines.progress(Progress(accepted=12_400, answered=5, fed=True, batches=(BATCH,)))
    assert said() == ["5 answered, 0 dead of 12400 accepted"], "a batch that stands still is not told again"


def test_plain_lines_come_ever_more_rarely_and_at_least_once_a_minute(now, said):
    lines = Lines(now)
    lines.progress(Progress(fed=True))
    for second in range(3_600):
        now.s += 1.0
        lines.progress(Progress(accepted=9_999, answered=second, fed=True))
    busy = len(said())
    assert 60 <= busy <= 120
    for _ in range(600):
        now.s += 1.0
        lines.progress(Progress(accepted=9_999, answered=3_599, fed=True))
    assert len(said()) == 600 / STILL_S


def test_a_long_silence_and_work_on_files_are_told(now, said):
    lines = Lines(now)
    lines.progress(Progress(accepted=1, fed=True, silent_s=2_100.0))
    assert said() == ["0 answered, 0 dead of 1 accepted; no contact for 35 min"]
    for done in range(12):
        now.s += 1.0
        lines.progress(Progress(fed=True, working=Working("writing results.jsonl", done, 12)))
    assert said() == ["writing results.jsonl, 33 %", "writing results.jsonl, 75 %"]


def test_many_batches_do_not_flood_the_lines(now, said):
    many = tuple(OpenBatch(f"batch_{number}", "m", "validating", 5) for number in range(9))
    Lines(now).progress(Progress(accepted=45, fed=True, batches=many))
    told = said()
    assert len(told) == 7
    assert told[1] == "batch batch_0 (m): validating, 5 requests"
    assert told[-1] == "and 4 more batches"


def test_on_a_terminal_each_open_batch_has_its_bar_until_it_is_done(now):
    page = io.StringIO()
    console = Console(file=page, force_terminal=True, width=120)
    bar = Bar(TextColumn("{task.description} {task.completed}/{task.total} {task.fields[beside]}"), console=console)
    shown = Shown(bar, bar.add_task("", total=None, beside=""), now)

    def rows():
        return [(each.description, each.completed, each.total, each.fields["beside"]) for each in bar.tasks]

    shown.progress(Progress(accepted=500, refused=1))
    assert rows() == [("reading", 0, None, "500 accepted so far · 1 refused")]
    shown.progress(Progress(accepted=500, answered=9, fed=True, batches=(BATCH,)))
    assert rows() == [("answering", 9, 500, ""), ("  batch_1 in_progress", 123, 400, "3 failed")]
    shown.progress(Progress(accepted=500, answered=409, fed=True))
    assert rows() == [("answering", 409, 500, "")]
    shown.progress(Progress(fed=True, working=Working("writing results.jsonl", 10, 500)))
    assert rows() == [("writing results.jsonl", 10, 500, "")]
