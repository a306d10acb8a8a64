from __future__ import annotations

from contextlib import ExitStack
from functools import cache

import pytest
from botocore.loaders import JSONFileLoader
from stack_cases import START, TEMPLATE, Stage

from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.simulator.scenario import Scenario
from lowtide_local.stack import template
from lowtide_local.stack.line import Line
from lowtide_local.stack.runner import deployed


@pytest.fixture(scope="session")
def read_once():
    """Every test has its stack, and every container of it a boto3 session: each would read the same files again."""
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
    """Makes the deployed stack, in fair weather unless a scenario says otherwise."""
    with ExitStack() as held:

        def make(scenario=None, *deaths, **options):
            line, metrics = Line(scenario or Scenario(), START, *deaths), RecordedMetrics()
            given = {"metrics": metrics, **options}
            stack = held.enter_context(deployed(TEMPLATE, start=START, http_client=line.client, **given))
            made = Stage(stack, line, metrics)
            held.callback(made.close)
            return made

        yield make
