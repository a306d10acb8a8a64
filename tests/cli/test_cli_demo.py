"""The demo's day on the embedded engine: everything that is to go wrong does, and it still adds up."""

from __future__ import annotations

import pytest

from lowtide_local.demo.play import play

MISHAPS = (
    "expired in part",
    "refused whole for a line of it: 1 dead",
    "was late and cancelled",
    "a batch was created, and its id not yet written down",
    "a storm of 429s",
)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_day_has_every_mishap_and_still_reconciles(tmp_path, seed):
    day = play(200, seed, tmp_path / "state", tmp_path, lambda _now, _sent, _all: None)
    assert day.report.reconciled, [check for check in day.report.checks if not check.held]
    told = " | ".join(moment.what for moment in day.moments)
    assert [mishap for mishap in MISHAPS if mishap not in told] == []
    notes = " | ".join(story.note for story in day.report.batches)
    assert "the reply to its creation was lost" in notes
    assert "late, and cancelled for a deadline" in notes
    assert "failed validation: " in notes
    assert day.report.receipt.rescued > 0
    assert day.report.receipt.premium_usd > 0
    [low] = [line for line in day.report.tiers if line.tier == "LOW"]
    # The refused item and the line that failed validation had no answer, in time or not.
    assert low.deadline_met == low.tasks - 2
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "rescued from late batches for" in page
