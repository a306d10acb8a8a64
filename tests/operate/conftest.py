from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from botocore.client import BaseClient

from lowtide_local.cli import main as command
from lowtide_local.operate import desk
from lowtide_local.stack.runner import STACK
from tests.stack.stack_cases import OPEN, files_read_once, low, pack, stages, task

DIES = "[sim:refuse]"


@pytest.fixture(scope="session")
def read_once():
    with files_read_once():
        yield


@pytest.fixture
def stage(read_once):
    with stages() as make:
        yield make


def bury(played):
    """Two real-time tasks and one of a batch die, and one is answered."""
    played.send(task("draft", text=DIES), task("voice", "voice_agent_reply", text=DIES, tenant="globex"))
    played.send(pack(low("bulk", text=DIES), low("fine")))
    played.stack.settle()
    return played


@pytest.fixture
def dead(stage):
    return bury(stage())


@pytest.fixture(scope="module")
def buried(read_once):
    """The same, for tests that only look."""
    with stages() as make:
        yield bury(make())


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The last line on stderr, of a command that failed; a question may stand before it."""
        _, found, line = self.err.rstrip("\n").partition("lowtide: ")
        assert found
        assert "\n" not in line
        return line


class Terminal(StringIO):
    """Somebody is there to answer."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def lowtide(monkeypatch, capsys):
    """The command in this process, where the fake AWS is, against the stack that was made. It may do what the
    operator's policy allows, and nothing else."""
    monkeypatch.setattr(command, "treat_terminate_as_interrupt", lambda: None)
    monkeypatch.setattr(desk, "THREADS", 1)  # moto's queues bear one call at a time
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LOWTIDE_STACK", STACK)

    def run(*arguments, answer=None, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["lowtide", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin)) if answer is None else Terminal(answer + "\n"))
        capsys.readouterr()
        try:
            with OPEN[-1].stack.roles.acting("OperatorPolicy") if OPEN else nullcontext():
                command.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


def printed(ended):
    """The records that a command printed, in their order."""
    assert ended.code == 0
    return [json.loads(line) for line in ended.out.split("\n") if line]


def names(ended):
    return sorted(each["task_id"] for each in printed(ended))


def counted(monkeypatch):
    """The operations of AWS that are asked for from now on."""
    usual, made = BaseClient._make_api_call, []

    def call(client, operation, arguments):
        made.append(operation)
        return usual(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    return made
