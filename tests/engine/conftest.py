from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from tests.contract.cases import NOW
from tests.contract.conftest import StillClock


@pytest.fixture
def clock() -> StillClock:
    return StillClock(NOW)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def engine(directory: Path, clock: StillClock) -> Iterator[Engine]:
    with Engine.open(directory, clock, Durability.RELAXED) as opened:
        yield opened
