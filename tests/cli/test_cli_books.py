"""When the books do not balance, when they cannot be checked, and what is not known to cost."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from commands import batch_line, chat, lowtide, patched, receipt, task, write_tasks
from doors import before
from starlette.responses import Response
from starlette.routing import Route

from lowtide_local.run import statement

OVERBILLED = patched(
    "import lowtide_local.run.statement as statement\n"
    "told = statement._lines\n"
    "async def twice(endpoint, run):\n"
    "    lines = await told(endpoint, run)\n"
    "    return [*lines, *lines]\n"
    "statement._lines = twice"
)
"""The command, at a provider whose bill has each line twice."""


@pytest.fixture
def tasks(tmp_path):
    return write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])


def test_books_that_do_not_balance_end_with_4_and_so_does_the_same_command_again(provider, tasks, tmp_path):
    ended = provider.run(tasks, tmp_path / "out", program=OVERBILLED)
    assert ended.code == 4
    assert "FAILS  every line that the provider billed is in a receipt or in repaid" in ended.out
    assert receipt(tmp_path / "out")["reconciled"] is False
    assert provider.run(tasks, tmp_path / "out", "--json").code == 4


def test_books_that_do_not_balance_weigh_more_than_dead_letters(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), task("poison", prompt="[sim:400]")])
    assert provider.run(tasks, tmp_path / "out", program=OVERBILLED).code == 4
    assert receipt(tmp_path / "out")["dead"] == 1


@pytest.mark.parametrize(
    ("after_s", "status", "content", "why"),
    [
        (3.0, 200, '{"data": []}', "gave no answer in 1 s"),
        (0.0, 404, "{}", "HTTP 404"),
        (0.0, 200, "<html>", "cannot be read"),
    ],
)
def test_a_bill_that_cannot_be_had_is_said_to_be_not_checked_and_changes_no_code(
    provider, tasks, tmp_path, after_s, status, content, why
):
    async def bill(_):
        await asyncio.sleep(after_s)
        return Response(content, status)

    program = patched("import lowtide_local.run.statement as statement; statement.ASKING_S = 1.0")
    with before(provider.root, first=[Route("/simulator/billing", bill)]) as (port, _):
        url = f"http://127.0.0.1:{port}/v1"
        ended = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", url, program=program)
    assert ended.code == 0
    [line] = [line for line in ended.out.splitlines() if line.startswith("not checked")]
    assert line.startswith("not checked  what the provider billed, line by line (")
    assert why in line
    assert receipt(tmp_path / "out")["reconciled"] is True
    assert "not checked" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_tokens_that_a_batch_was_reported_without_are_said_to_be_not_checked(provider, tasks, tmp_path):
    with before(provider.root, change=lambda path, body: {**body, "usage": None} if "/batches/" in path else body) as (
        port,
        _,
    ):
        ended = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", f"http://127.0.0.1:{port}/v1")
    assert ended.code == 0
    assert "not checked  each batch's tokens against what the provider reported for it (1 of 1" in ended.out


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("url", ["http://example.invalid/v1", "https://10.0.0.1/v1", "https://localhost.example/v1"])
async def test_only_this_machine_is_asked_for_a_simulators_bill(monkeypatch, url, anyio_backend):
    monkeypatch.setattr(statement, "build_http_client", lambda *_: pytest.fail("it was asked"))
    with pytest.raises(statement._Untold, match="has no bill"):
        await statement._lines(statement.Endpoint(url, "key"), "run-1")


def test_what_has_no_known_price_is_unknown_and_not_free(provider, tmp_path):
    known = task("known")
    unknown = [task(f"u{n}", "content_generation", request=chat(f"Hi {n}.", "nobody-knows-me")) for n in range(2)]
    tasks = write_tasks(tmp_path / "all.jsonl", [known, *unknown])
    ended = provider.run(tasks, tmp_path / "out")
    assert ended.code == 0
    receipt_lines = ended.out[ended.out.index("Receipt") :].splitlines()
    assert re.split(r"\s{2,}", receipt_lines[1].strip())[-1] == "unpriced"
    rows = {line.split()[0]: line.split()[1:] for line in receipt_lines[2:5]}
    assert rows["batch"] == ["2", "unknown", "unknown", "unknown", "2"]
    assert rows["default"][-1] == "0"
    assert rows["all"][-1] == "2"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("unknown") >= 6
    nothing = write_tasks(tmp_path / "unknown.jsonl", unknown)
    ended = provider.run(nothing, tmp_path / "nothing")
    assert "all        2  unknown" in ended.out
    assert receipt(tmp_path / "nothing")["unpriced"] == 2
    assert json.dumps(receipt(tmp_path / "nothing")["cost_usd"]) == '"0"'
