"""What a collection keeps on disk so that its memory does not grow with the batch."""

from __future__ import annotations

import io
import tracemalloc

from lowtide.core.manifest import ManifestLine
from lowtide.core.outcomes import Again, Response
from lowtide.core.parts import PartLine
from lowtide.core.task import custom_id
from lowtide.steps import restage, spool
from lowtide.steps.failures import SpooledFailures
from lowtide.steps.sent import SentLines
from tests.contract.cases import task

LINES = 50_000


def test_the_index_of_fifty_thousand_lines_takes_a_few_hundred_bytes_a_line():
    tracemalloc.start()
    try:
        sent = SentLines(io.BytesIO())
        for number in range(LINES):
            name = custom_id("default", f"task-{number}", 1)
            sent.add(ManifestLine(custom_id=name, attempt=1, part_id="p-1", offset=0, length=number), start=0)
        took, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sent) == LINES
    assert took / LINES < 300
    name = custom_id("default", "task-49999", 1)
    assert name in sent
    assert sent.length(name) == LINES - 1
    assert custom_id("default", "task-1", 2) not in sent


def test_a_failure_comes_back_as_it_was_and_the_last_one_counts():
    first = (Again("server_error", "It fell over."), Response(500, {"error": {"n": 1.5, "t": "ü\u2028"}}, "req_1"))
    last = (Again("batch_expired", "Too late.", counts=False), None)
    with SpooledFailures() as failures:
        failures["a-1"] = first
        failures["b-1"] = first
        assert failures["a-1"] == first
        failures["a-1"] = last
        assert failures["a-1"] == last
        assert failures.pop("b-1", None) == first
        assert failures.pop("b-1", None) is None
        assert list(failures) == ["a-1"]


def test_a_failure_nested_more_deeply_than_json_is_written_keeps_its_text():
    body: object = "the end"
    for _ in range(400):
        body = [body]
    with SpooledFailures() as failures:
        failures["a-1"] = (Again("server_error", "Deep."), Response(500, body))
        _, response = failures["a-1"]
    assert response is not None
    assert isinstance(response.body, str)
    assert "the end" in response.body


def test_the_lines_of_many_held_tenants_are_each_read_once_and_no_other_with_them(monkeypatch):
    read = 0

    class Counting(io.BytesIO):
        def readline(self, size=-1, /):
            nonlocal read
            raw = super().readline(size)
            read += len(raw)
            return raw

    file = Counting()
    monkeypatch.setattr(spool, "TemporaryFile", lambda: file)
    with restage.LinesAgain() as again:
        for number in range(200):
            line = PartLine(task=task(number).model_copy(update={"tenant": f"c{number % 40}"}))
            again.add(1, line, Again("missing", "Gone."), apart=True)
        size = len(file.getvalue())
        names = {tenant: [each.line.task.task_id for each in again.read(at)] for tenant, at in again.together.items()}
    assert names["c7"] == [task(number).task_id for number in (7, 47, 87, 127, 167)]
    assert sum(map(len, names.values())) == 200
    assert read == size
