"""``lowtide simulate``."""

from __future__ import annotations

from pathlib import Path

from lowtide_local.simulator.scenario import Scenario
from lowtide_local.simulator.server import serve

from .stop import usage


def simulate_command(port: int, scenario: Path | None) -> None:
    try:
        chosen = Scenario.load(scenario) if scenario is not None else Scenario.default()
    except (OSError, ValueError) as error:
        raise usage(f"--scenario {scenario}: {error}") from None
    serve(port, chosen)
