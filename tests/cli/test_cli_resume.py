"""Killed, stopped, in use, or not the same run: what a second command finds in DIR."""

from __future__ import annotations

import shlex
import signal
import socket
import time
from collections import Counter
from random import Random

import pytest
from commands import (
    WITHOUT_GRACE,
    batch_line,
    finish,
    patched,
    read_lines,
    receipt,
    records,
    result_files,
    said,
    start,
    task,
    wait_for_line,
    wait_until,
    with_small_files,
    write_tasks,
)

LINGERING = """
seed = 3
[latency]
default = { min_s = 0.1, max_s = 0.9 }
flex = { min_s = 0.1, max_s = 0.9 }
[batch]
min_s = 0.3
max_s = 1.5
item_server_error = 0.1
shuffled = true
"""
KINDS = ("live_chat_response", "email_draft", "meeting_summary", "content_generation", "data_enrichment")


def mixed(count):
    tasks = [task(f"t{number}", KINDS[number % len(KINDS)], prompt=f"Number {number}.") for number in range(count)]
    return [*tasks, task("poison", prompt="[sim:400]"), batch_line("poison-low", "[sim:400]"), {"task_id": "no task"}]


@pytest.fixture(scope="module")
def undisturbed(provider, tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    tasks = write_tasks(directory / "tasks.jsonl", mixed(80))
    assert provider.run(tasks, directory / "out").code == 3
    return tasks, directory / "out"


def essence(out):
    """What must be the same however often a run was killed: not its times, its ids and its attempts."""
    return {
        task_id: (each["status"], each["tier"], each["model"], each["error"], _content(each["response"]))
        for task_id, each in records(out).items()
    }


def _content(response):
    return [choice["message"] for choice in response["body"].get("choices", [])]


def test_killed_at_random_moments_it_ends_with_the_same_records_and_nothing_batched_is_paid_twice(
    undisturbed, simulator, tmp_path
):
    tasks, clean = undisturbed
    provider, out, dice = simulator(LINGERING), tmp_path / "out", Random(7)
    for _ in range(5):
        process = provider.start(tasks, out, program=WITHOUT_GRACE)
        wait_until((out / ".lowtide" / "state.db").exists)
        time.sleep(dice.uniform(0.3, 2.0))
        process.kill()
        finish(process)
    assert provider.run(tasks, out, program=WITHOUT_GRACE).code == 3
    assert essence(out) == essence(clean)
    assert read_lines(out / "refused.jsonl") == read_lines(clean / "refused.jsonl")
    assert {each["task"].get("task_id", each["task"].get("custom_id")) for each in read_lines(out / "dead.jsonl")} == {
        *("poison", "poison-low"),
    }
    paid = receipt(out)
    assert paid["reconciled"] is True
    batched = Counter(line["id"].rpartition("-")[0] for line in provider.billed() if line["kind"] == "batch")
    assert max(batched.values()) == 1
    calls = [line for line in provider.billed() if line["kind"] == "call"]
    answered_by_call = [each for each in records(out).values() if each["status"] == "answered" and not each["batch_id"]]
    assert 0 <= len(calls) - len(answered_by_call) <= paid["repaid"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line_and_the_same_command_goes_on(provider, tmp_path, number):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b", "[sim:500-once]")])
    process = provider.start(tasks, tmp_path / "out")
    wait_until((tmp_path / "out" / ".lowtide" / "state.db").exists)
    process.send_signal(number)
    ended = finish(process)
    assert ended.code == 1
    assert ended.out == ""
    *_, command, last = ended.err.splitlines()
    assert last == (
        f"lowtide: stopped by {number.name}; what was done is kept in {tmp_path / 'out'}: repeat the command to go on"
    )
    options = ["run", str(tasks), "--out", str(tmp_path / "out"), "--base-url", provider.url]
    assert shlex.split(command.removeprefix("to go on: "))[-len(options) :] == options
    assert "Traceback" not in ended.err
    assert provider.run(tasks, tmp_path / "out").code == 0
    assert set(records(tmp_path / "out")) == {"a", "b"}


WRITES_FOR_EVER = patched(
    "import sys, time\n"
    "import lowtide_local.run.outputs as outputs\n"
    "def slowly(*_):\n"
    "    print('writing now', file=sys.stderr, flush=True)\n"
    "    while True: time.sleep(0.01)\n"
    "outputs.write_receipt = slowly"
)
DEAF = patched(
    "import lowtide_local.engine.engine as engine\n"
    "import sys, time\n"
    "def close(_):\n"
    "    print('closing now', file=sys.stderr, flush=True)\n"
    "    while True:\n"
    "        try: time.sleep(0.01)\n"
    "        except KeyboardInterrupt: pass\n"
    "engine.Engine.close = close"
)
"""The command, which never comes to its end once it is told to stop."""


def test_a_signal_while_records_are_written_ends_at_once_and_the_same_command_writes_them(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])
    process = provider.start(tasks, tmp_path / "out", program=WRITES_FOR_EVER)
    wait_for_line(process, "writing now")
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith("lowtide: stopped by SIGINT; what was done is kept in ")
    assert not (tmp_path / "out" / "receipt.json").exists()
    assert [path for path in (tmp_path / "out").iterdir() if path.name.endswith(".partial")] == []
    billed = len(provider.billed())
    assert provider.run(tasks, tmp_path / "out").code == 0
    assert len(provider.billed()) == billed
    assert set(records(tmp_path / "out")) == {"a", "b"}


def test_a_second_signal_ends_it_on_the_spot_with_the_same_lines(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])
    process = provider.start(tasks, tmp_path / "out", program=DEAF)
    wait_until((tmp_path / "out" / ".lowtide" / "state.db").exists)
    process.send_signal(signal.SIGINT)
    wait_for_line(process, "closing now")
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert ended.code == 1
    *_, command, last = ended.err.splitlines()
    assert command.startswith("to go on: ")
    assert last.startswith("lowtide: stopped by SIGINT; what was done is kept in ")
    assert provider.run(tasks, tmp_path / "out").code == 0


def test_a_signal_while_a_large_file_is_read_ends_it_and_the_same_command_reads_on(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task(f"t{n}", prompt=f"{n}") for n in range(4_000)])
    process = provider.start(tasks, tmp_path / "out", "--no-batch")
    wait_until((tmp_path / "out" / ".lowtide" / "state.db").exists)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.code == 1
    assert "what was done is kept" in ended.err.splitlines()[-1]


def test_a_signal_before_anything_was_made_says_so(tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a")])
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        process = start("run", tasks, "--out", tmp_path / "out", "--base-url", url)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            ended = finish(process)
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == "lowtide: stopped by SIGINT; nothing was begun: repeat the command to begin"
    assert not (tmp_path / "out").exists()


def test_a_directory_in_use_is_refused_and_the_run_in_it_goes_on(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])
    process = provider.start(tasks, tmp_path / "out")
    wait_until((tmp_path / "out" / ".lowtide" / "state.db").exists)
    process.send_signal(signal.SIGSTOP)
    second = provider.run(tasks, tmp_path / "out")
    process.send_signal(signal.SIGCONT)
    assert second.code == 1
    assert said(second) == f"{tmp_path / 'out'} is in use by another lowtide run; wait for it, or give another --out"
    assert finish(process).code == 0
    assert set(records(tmp_path / "out")) == {"a", "b"}


def test_another_input_endpoint_or_kind_of_run_in_the_same_directory_is_refused(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a")])
    other = write_tasks(tmp_path / "other.jsonl", [task("b")])
    out = tmp_path / "out"
    assert provider.run(tasks, out).code == 0
    before = result_files(out)
    for file, options, what in (
        (other, (), "input file"),
        (tasks, ("--base-url", provider.url + "/other"), "--base-url"),
        (tasks, ("--no-batch",), "--no-batch"),
    ):
        ended = provider.run(file, out, *options)
        assert ended.code == 2
        assert f"holds a run with another {what}" in said(ended)
    assert result_files(out) == before


@pytest.mark.parametrize("options", [(), ("--no-batch",)])
def test_a_wrong_address_that_took_nothing_is_mended_in_the_same_directory(provider, tmp_path, options):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])
    out = tmp_path / "out"
    wrong = provider.run(tasks, out, "--base-url", provider.url + "/nowhere", *options)
    assert wrong.code in (1, 2)
    mended = provider.run(tasks, out, *options)
    assert mended.code == 0
    assert set(records(out)) == {"a", "b"}


def test_a_directory_with_other_peoples_files_is_as_good_as_any(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a")])
    (tmp_path / "notes.txt").write_text("mine")
    assert provider.run(tasks, tmp_path).code == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert set(records(tmp_path)) == {"a"}


def test_an_out_that_is_no_directory_is_wrong_usage(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a")])
    ended = provider.run(tasks, tasks)
    assert ended.code == 2
    assert said(ended) == f"--out {tasks} is a file; give a directory"
    below = provider.run(tasks, tasks / "below")
    assert below.code == 2
    assert said(below).startswith(f"cannot write to --out {tasks / 'below'}")


def test_a_state_that_is_not_ours_is_wrong_usage(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a")])
    (tmp_path / "out" / ".lowtide").mkdir(parents=True)
    (tmp_path / "out" / ".lowtide" / "state.db").write_bytes(b"something else, and long enough for a header" * 100)
    ended = provider.run(tasks, tmp_path / "out")
    assert ended.code == 2
    assert "use another directory" in said(ended)


def test_records_that_cannot_be_written_are_one_line_and_are_written_once_they_can_be(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])
    obstacle = tmp_path / "out" / "receipt.json"
    obstacle.mkdir(parents=True)
    ended = provider.run(tasks, tmp_path / "out")
    assert ended.code == 1
    assert "Is a directory" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
    obstacle.rmdir()
    billed = len(provider.billed())
    assert provider.run(tasks, tmp_path / "out").code == 0
    assert len(provider.billed()) == billed
    assert receipt(tmp_path / "out")["answered"] == 2


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task(f"t{n}", prompt=f"{n} " * 2_000) for n in range(60)])
    ended = provider.run(tasks, tmp_path / "out", program=with_small_files(300_000))
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert ended.err.splitlines()[-1].startswith("lowtide: ")
    assert "defect" not in ended.err
    assert provider.run(tasks, tmp_path / "out").code == 0
    assert len(records(tmp_path / "out")) == 60
