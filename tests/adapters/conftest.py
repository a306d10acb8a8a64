from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.aws import Stand, stand


@pytest.fixture
def aws() -> Iterator[Stand]:
    with stand() as made:
        yield made
