"""The command and the simulated provider as processes, and tasks to give them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any, Self
from urllib.request import urlopen

LOWTIDE = (sys.executable, "-m", "lowtide_local.cli.main")
PATIENCE_S = 60

QUICK = """
seed = 3
[latency]
default = { min_s = 0.01, max_s = 0.05 }
flex = { min_s = 0.01, max_s = 0.05 }
[batch]
min_s = 0.1
max_s = 0.3
shuffled = true
"""


def environment(**extra: str | None) -> dict[str, str]:
    """Without this machine's key, endpoint and taste in terminals; None takes a variable away."""
    ours = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM", "PYTHONUNBUFFERED"}
    variables: dict[str, str | None] = {name: value for name, value in os.environ.items() if name not in ours}
    variables |= {"TERM": "xterm", "COLUMNS": "120", **extra}
    return {name: value for name, value in variables.items() if value is not None}


def patched(code: str) -> tuple[str, ...]:
    """The command, with constants changed before it starts."""
    return (sys.executable, "-c", f"{code}\nfrom lowtide_local.cli.main import main\nmain()")


SOON = patched("import lowtide_local.run.command as run; run.RETRY_BATCH_S = 0.1")
"""The command, with less patience between the tries of a batch's lines."""

WITHOUT_GRACE = patched(
    "from datetime import timedelta\nimport lowtide.core.batches as batches; batches.GRACE = timedelta(seconds=1)"
)
"""The command, sure after a second that a batch it does not find was not created. The simulated list does not lag."""


def with_small_files(size: int) -> tuple[str, ...]:
    """The command, where no file may grow beyond ``size`` bytes: like a full disk, it refuses a write half-way."""
    return patched(f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def lowtide(*arguments: object, program: tuple[str, ...] = LOWTIDE, **variables: str | None) -> Ended:
    process = start(*arguments, program=program, **variables)
    return finish(process)


def start(*arguments: object, program: tuple[str, ...] = LOWTIDE, **variables: str | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return Ended(process.returncode, out, err)


def wait_until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up, "it never came to that"
        time.sleep(0.02)


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """The first line on stderr that has ``text``."""
    assert process.stderr is not None
    watchdog = Timer(PATIENCE_S, process.kill)
    watchdog.start()
    try:
        for line in process.stderr:
            if text in line:
                return line
    finally:
        watchdog.cancel()
    raise AssertionError(f"it ended without saying {text!r}")


class Simulator:
    """``lowtide simulate``, at ``url``."""

    def __init__(self, scenario: Path, port: int = 0) -> None:
        self.scenario = scenario
        self._process = subprocess.Popen(
            [*LOWTIDE, "simulate", "--port", str(port), "--scenario", str(scenario)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().split()
        self.url = said[3]
        self.root = self.url.removesuffix("/v1")
        self.port = int(self.root.rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Idempotent."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def run(
        self, tasks: Path, out: Path, *options: str, program: tuple[str, ...] = LOWTIDE, **variables: str | None
    ) -> Ended:
        return finish(self.start(tasks, out, *options, program=program, **variables))

    def start(
        self, tasks: Path, out: Path, *options: str, program: tuple[str, ...] = LOWTIDE, **variables: str | None
    ) -> subprocess.Popen[str]:
        return start("run", tasks, "--out", out, "--base-url", self.url, *options, program=program, **variables)

    def billed(self) -> list[dict[str, Any]]:
        return self._ask("billing")["data"]

    def requests(self) -> dict[str, int]:
        return self._ask("state")["requests"]

    def batches(self) -> list[dict[str, Any]]:
        return self._ask("state")["batches"]

    def _ask(self, what: str) -> Any:
        with urlopen(f"{self.root}/simulator/{what}", timeout=10) as reply:
            return json.load(reply)


def chat(prompt: str, model: str = "gpt-5-mini") -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    return {"url": "/v1/chat/completions", "body": body}


def task(task_id: str, kind: str = "email_draft", prompt: str = "Say hello.", **fields: Any) -> dict[str, Any]:
    return {"task_id": task_id, "type": kind, "request": chat(prompt), **fields}


def batch_line(custom_id: str, prompt: str = "Say hello.") -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", **chat(prompt)}


def write_tasks(path: Path, tasks: list[Any]) -> Path:
    """``bytes`` are a line as it is."""
    lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in tasks]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def records(out: Path) -> dict[str, Any]:
    """By task id; fails where an id has more than one."""
    read = read_lines(out / "results.jsonl")
    assert [count for count in Counter((each["tenant"], each["task_id"]) for each in read).values() if count > 1] == []
    return {each["task_id"]: each for each in read}


def receipt(out: Path) -> dict[str, Any]:
    return json.loads((out / "receipt.json").read_bytes())


def result_files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def said(ended: Ended) -> str:
    """The one line of a command that failed."""
    assert ended.out == ""
    [line] = ended.err.splitlines()
    assert line.startswith("lowtide: ")
    return line.removeprefix("lowtide: ")
