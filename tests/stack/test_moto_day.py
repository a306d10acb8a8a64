"""The demo's day through the deployed functions."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import pytest

from lowtide.core.errors import LowtideError
from lowtide_local.stack import day
from lowtide_local.stack.day import play_on_moto


def test_a_day_on_moto_reconciles_whatever_dies_in_it(tmp_path, read_once):
    watched = []
    played = play_on_moto(40, 3, tmp_path, lambda _now, sent, of: watched.append((sent, of)))
    assert played.report.reconciled, [check for check in played.report.checks if not check.held]
    receipt = played.report.receipt
    # The day's own strays: four broken messages and a conflict, three repeats, a poison item on either path, and a
    # line that a batch is refused for.
    assert (receipt.tasks, receipt.refused, receipt.duplicates, receipt.dead) == (40, 5, 3, 3)
    told = " ".join(moment.what for moment in played.moments)
    assert "refused whole for a line of it: 1 dead" in told
    assert "was late and cancelled" in told
    assert receipt.rescued > 0
    assert sum("was killed" in moment.what for moment in played.moments) == 3
    assert [moment.at for moment in played.moments] == sorted(moment.at for moment in played.moments)
    assert watched[-1] == (48, 48)
    records = [orjson.loads(line) for line in (tmp_path / "results.jsonl").read_bytes().splitlines()]
    assert len({record["task_id"] for record in records}) == len(records) == 40
    assert orjson.loads((tmp_path / "receipt.json").read_bytes())["reconciled"] is True
    assert (tmp_path / "report.html").stat().st_size > 1000


def test_outside_a_clone_the_moto_engine_says_where_it_would_run(monkeypatch, tmp_path):
    monkeypatch.setattr(day, "__file__", str(tmp_path / "site-packages" / "lowtide_local" / "stack" / "day.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LowtideError, match="clone"):
        play_on_moto(10, 1, tmp_path, lambda *_: None)


def test_the_template_is_found_from_the_clone_that_one_stands_in(monkeypatch):
    clone = Path(__file__).parents[2]
    monkeypatch.setattr(day, "__file__", "/nowhere/lowtide_local/stack/day.py")
    monkeypatch.chdir(clone)
    assert day.find_template() == clone / "template.yaml"


def test_a_clone_without_its_development_packages_is_told_which_one(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "lowtide_local.stack.play", raising=False)
    monkeypatch.delitem(sys.modules, "lowtide_local.stack.runner", raising=False)
    monkeypatch.setitem(sys.modules, "moto", None)
    with pytest.raises(LowtideError, match="needs moto: run `uv sync`"):
        play_on_moto(10, 1, tmp_path, lambda *_: None)
