"""Scenario files: what ships, what is refused, and what the shipped one promises."""

from __future__ import annotations

import pytest

from lowtide.core.errors import ConfigError
from lowtide.core.task import Endpoint
from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.scenario import MishapKind
from lowtide_local.simulator.testing import SteppingClock


def test_a_scenario_file_sets_what_it_names_and_leaves_the_rest(tmp_path):
    path = tmp_path / "storm.toml"
    path.write_text(
        'seed = 9\n[batch]\nmax_s = 5.0\n[[batch.mishaps]]\nkind = "expires"\nbatches = [2]\nfraction = 0.6\n'
    )
    scenario = Scenario.load(path)
    assert (scenario.seed, scenario.batch.max_s, scenario.markers) == (9, 5.0, True)
    assert [(each.kind, each.batches, each.fraction) for each in scenario.batch.mishaps] == [
        (MishapKind.EXPIRES, (2,), 0.6)
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sed = 1", "sed"),
        ("[calls]\nrate_limited = 2.0", "calls.rate_limited"),
        ("[batch]\nmin_s = 9.0\nmax_s = 1.0", "batch"),
        ("seed = ", "TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, named):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        Scenario.load(path)


def test_a_scenario_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Scenario.load(tmp_path / "none.toml")


def test_in_the_shipped_weather_every_call_is_answered_by_its_third_try():
    """Well-formed work must not die of chance: at most one 429 for flex, one fault of the draw, then an answer."""
    provider = SimulatedProvider(Scenario.default(), SteppingClock())
    statuses = set()
    for n in range(1_500):
        messages = [{"role": "user", "content": f"question {n}"}]
        body = {"model": "gpt-5-mini", "messages": messages, "service_tier": "flex"}
        tries = [provider.call(Endpoint.CHAT, body, None).status for _ in range(3)]
        statuses.update(tries)
        assert tries[-1] == 200
    assert statuses == {200, 429, 500}
