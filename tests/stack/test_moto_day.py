"""The demo's day through the deployed functions."""

from __future__ import annotations

import orjson

from lowtide_local.stack.day import play_on_moto


def test_a_day_on_moto_reconciles_whatever_dies_in_it(tmp_path, api_models):
    watched = []
    day = play_on_moto(40, 3, tmp_path, lambda _now, sent, of: watched.append((sent, of)))
    assert day.report.reconciled, [check for check in day.report.checks if not check.held]
    receipt = day.report.receipt
    # The day's own strays: four broken messages and a conflict, three repeats, a poison item on either path.
    assert (receipt.tasks, receipt.refused, receipt.duplicates, receipt.dead) == (40, 5, 3, 2)
    assert sum("was killed" in moment.what for moment in day.moments) == 3
    assert [moment.at for moment in day.moments] == sorted(moment.at for moment in day.moments)
    assert watched[-1] == (48, 48)
    records = [orjson.loads(line) for line in (tmp_path / "results.jsonl").read_bytes().splitlines()]
    assert len({record["task_id"] for record in records}) == len(records) == 40
    assert orjson.loads((tmp_path / "receipt.json").read_bytes())["reconciled"] is True
    assert (tmp_path / "report.html").stat().st_size > 1000
