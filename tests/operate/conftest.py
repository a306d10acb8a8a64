from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from io import StringIO

import pytest
from botocore.loaders import JSONFileLoader

from lowtide_local.cli import main as command
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.operate import desk
from lowtide_local.simulator.scenario import Scenario
from lowtide_local.stack import template
from lowtide_local.stack.line import Line
from lowtide_local.stack.runner import STACK, deployed
from tests.stack.stack_cases import START, TEMPLATE, Stage, low, pack, task

DIES = "[sim:refuse]"


@pytest.fixture(scope="session")
def read_once():
    """Every command makes its clients anew: each would read the same files again."""
    loader, load = JSONFileLoader(), JSONFileLoader.load_file

    @cache
    def loaded(path):
        return load(loader, path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(JSONFileLoader, "load_file", lambda _self, path: loaded(path))
        patched.setattr(template, "read_yaml", cache(template.read_yaml))
        yield


@pytest.fixture
def stage(read_once):
    with stages() as make:
        yield make


@contextmanager
def stages():
    """Makes the deployed stack, in fair weather unless a scenario says otherwise."""
    with ExitStack() as held:

        def make(scenario=None, **options):
            line, metrics = Line(scenario or Scenario(), START), RecordedMetrics()
            stack = held.enter_context(
                deployed(TEMPLATE, start=START, http_client=line.client, metrics=metrics, **options)
            )
            made = Stage(stack, line, metrics)
            held.callback(made.close)
            return made

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
    """The command in this process, where the fake AWS is, against the stack that was made."""
    monkeypatch.setattr(command, "treat_terminate_as_interrupt", lambda: None)
    monkeypatch.setattr(desk, "THREADS", 1)  # moto's queues bear one call at a time
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LOWTIDE_STACK", STACK)

    def run(*arguments, answer=None):
        monkeypatch.setattr(sys, "argv", ["lowtide", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", StringIO() if answer is None else Terminal(answer + "\n"))
        capsys.readouterr()
        try:
            command.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run
