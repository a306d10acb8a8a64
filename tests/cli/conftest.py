from __future__ import annotations

import pytest
from commands import QUICK, Simulator


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    """One for all tests of a module: every run finds its own lines on the bill."""
    scenario = tmp_path_factory.mktemp("scenario") / "quick.toml"
    scenario.write_text(QUICK)
    with Simulator(scenario) as simulator:
        yield simulator


@pytest.fixture
def simulator(tmp_path):
    """Starts one with a scenario of its own."""
    started = []

    def start(scenario: str = QUICK, port: int = 0) -> Simulator:
        path = tmp_path / f"scenario-{len(started)}.toml"
        path.write_text(scenario)
        started.append(Simulator(path, port))
        return started[-1]

    yield start
    for each in started:
        each.kill()
