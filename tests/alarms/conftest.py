from __future__ import annotations

import pytest

from tests.alarms.watched import watching


@pytest.fixture
def watch():
    with watching() as begin:
        yield begin
