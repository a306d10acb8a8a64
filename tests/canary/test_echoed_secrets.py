"""What a provider repeats of keys and prompts comes out nowhere: ``lowtide run`` and all it leaves, at debug level."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lowtide.adapters.clock import WallClock
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.canary.echoing import CALLS, GOOD, KEY, LINES, OTHERS, SECRET, SECRETS, Echoing, on_a_socket
from tests.cli.commands import Ended, finish, patched, read_lines, records, start, write_tasks

AT_DEBUG_LEVEL = patched(
    "import logging, lowtide_local.run.command as run\n"
    "run.RETRY_BATCH_S = 0.1\n"
    "logging.basicConfig(level=logging.DEBUG)\n"
    "for name in ('openai', 'httpx2', 'httpcore2'): logging.getLogger(name).setLevel(logging.DEBUG)"
)


GOOD_LINE, BATCHED = "good-line", "content_generation"


def provider_of(doubted_first: str | None = None) -> Echoing:
    scenario = Scenario(batch=BatchWeather(min_s=0.1, max_s=0.1))
    return Echoing(build_app(SimulatedProvider(scenario, WallClock())), doubted_first=doubted_first)


def run(url: str, tasks: Path, out: Path, *options: str, **variables: str | None) -> Ended:
    debug = {"OPENAI_API_KEY": KEY, "OPENAI_LOG": "debug", "LOG_LEVEL": "DEBUG", **variables}
    started = start("run", tasks, "--out", out, "--base-url", url, *options, program=AT_DEBUG_LEVEL, **debug)
    return finish(started)


def asking(kind: str, task_type: str = "email_draft") -> dict[str, Any]:
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": f"{SECRET} [echo:{kind}]"}]}
    request = {"url": "/v1/chat/completions", "body": body}
    return {"task_id": kind, "type": task_type, "request": request}


def leaks(text: str, *, prompts: bool = True) -> list[str]:
    return [secret for secret in SECRETS if secret in text and (prompts or secret != SECRET)]


def left(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> tuple[Ended, Path, Echoing]:
    """A run whose tasks are refused, each in another way, but for one on either path: it shows that the account is
    good."""
    directory, provider = tmp_path_factory.mktemp("refused"), provider_of("text")
    tasks = [*(asking(kind) for kind in (*CALLS, GOOD)), *(asking(kind, BATCHED) for kind in (*LINES, GOOD_LINE))]
    with on_a_socket(provider) as url:
        ended = run(url, write_tasks(directory / "tasks.jsonl", tasks), directory / "out")
    return ended, directory / "out", provider


def test_every_task_died_of_words_that_hold_a_key_and_a_prompt(refused):
    ended, out, provider = refused
    assert ended.code == 4, "the provider bills lines that it refuses, so the books do not balance"
    found = records(out)
    assert {found.pop(good)["status"] for good in (GOOD, GOOD_LINE)} == {"answered"}
    assert {record["status"] for record in found.values()} == {"dead"}
    assert len(found) == len(CALLS) + len(LINES)
    assert provider.echoes >= len(CALLS) + len(LINES)


def test_no_file_that_a_run_leaves_holds_a_key(refused):
    _, out, _ = refused
    found = {name: leaks(content.decode(errors="replace"), prompts=False) for name, content in left(out).items()}
    assert {name: keys for name, keys in found.items() if keys} == {}
    assert ".lowtide/state.db" in found


@pytest.mark.parametrize("name", ["results.jsonl", "refused.jsonl", "receipt.json", "report.html"])
def test_no_record_and_no_report_holds_the_prompt(refused, name):
    _, out, _ = refused
    assert leaks((out / name).read_text()) == []


def test_a_dead_letter_holds_the_prompt_in_its_task_alone(refused):
    _, out, _ = refused
    for letter in read_lines(out / "dead.jsonl"):
        assert SECRET in json.dumps(letter["task"])
        assert leaks(json.dumps(letter["error"])) == []


def test_nothing_that_a_run_prints_holds_a_key_or_a_prompt(refused):
    ended, _, _ = refused
    assert leaks(ended.out) == []
    assert leaks(ended.err) == []


def test_the_sentence_is_there_without_them(refused):
    _, out, _ = refused
    record = records(out)["400"]
    assert record["error"]["code"] == "invalid_prompt"
    assert record["error"]["message"].startswith("Invalid request, with the key (key). You sent: '(prompt)")
    assert "(key)@proxy.corp:3128" in record["error"]["message"]
    assert record["response"]["status_code"] == 400
    assert records(out)["line-400"]["response"]["body"]["error"]["type"] == "invalid_request_error"


def test_an_account_that_is_refused_is_told_in_the_provider_s_words_without_the_key(tmp_path):
    with on_a_socket(provider_of()) as url:
        tasks = write_tasks(tmp_path / "tasks.jsonl", [asking("401")])
        ended = run(url, tasks, tmp_path / "out")
    assert ended.code == 1
    assert "Invalid request, with the key (key)." in ended.err
    assert leaks(ended.err) == leaks(ended.out) == []
    assert leaks("".join(map(repr, left(tmp_path / "out").values())), prompts=False) == []


def test_a_proxy_that_cannot_be_reached_is_named_without_its_password(tmp_path):
    proxy = f"http://user:{OTHERS[4]}@127.0.0.1:1"
    tasks = write_tasks(tmp_path / "tasks.jsonl", [asking("400")])
    ended = run("http://192.0.2.1/v1", tasks, tmp_path / "out", HTTP_PROXY=proxy, HTTPS_PROXY=proxy, NO_PROXY="")
    assert ended.code == 1
    assert leaks(ended.err) == leaks(ended.out) == []
