from __future__ import annotations

import pytest
from stack_cases import files_read_once, stages


@pytest.fixture(scope="session")
def read_once():
    with files_read_once():
        yield


@pytest.fixture
def stage(read_once):
    with stages() as make:
        yield make
