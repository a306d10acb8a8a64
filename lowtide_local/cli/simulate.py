"""``lowtide simulate``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lowtide.core.errors import ConfigError
from lowtide_local.simulator.scenario import Scenario
from lowtide_local.simulator.server import serve

from .stop import usage


def simulate_command(port: int, scenario: Path | None) -> None:
    """Until a signal ends it, which is how it is meant to end."""
    try:
        chosen = Scenario.load(scenario) if scenario is not None else Scenario.default()
    except ConfigError as error:
        raise usage(f"--scenario: {error}") from None
    with suppress(KeyboardInterrupt):
        serve(port, chosen)
