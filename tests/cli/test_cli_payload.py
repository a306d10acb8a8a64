"""A payload of a type that no routes name, from a file through ``lowtide run`` to its record."""

from __future__ import annotations

from commands import receipt, records, write_tasks

from lowtide.adapters.shipped import shipped_routes


def test_a_payload_of_a_type_that_nobody_described_is_answered_out_of_the_box(provider, tmp_path):
    paid = {"task_id": "t_1", "type": "content_analysis", "payload": {"text": "Parcels arrive late in the north."}}
    tasks = write_tasks(tmp_path / "tasks.jsonl", [paid])
    ended = provider.run(tasks, tmp_path / "out", "--json")
    assert ended.code == 0
    record, standard = records(tmp_path / "out")["t_1"], shipped_routes().profiles["standard"]
    assert (record["status"], record["tier"], record["model"]) == ("answered", "NORMAL", standard)
    assert record["response"]["body"]["choices"][0]["message"]["content"]
    assert receipt(tmp_path / "out")["reconciled"]
