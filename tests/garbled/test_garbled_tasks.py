"""Hundreds of garbled task lines and messages among good ones, from the door to their ends, on the embedded engine.

``make fuzz`` does ten thousand of each. A failure names its seed and its number.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.garbled.check_tasks import check_deliveries, check_lines

SEED = os.environ.get("GARBLED_SEED", "20260308")


@pytest.mark.parametrize("number", range(4))
def test_a_hundred_garbled_lines_between_good_ones_harm_none_of_them(tmp_path, number):
    ends = check_lines(number, SEED, tmp_path)
    # Not because nothing could be read, or everything.
    assert min(ends["accepted"], ends["refused"]) > 10


@pytest.mark.parametrize("number", range(3))
def test_a_hundred_garbled_deliveries_harm_none_of_the_messages_in_them(tmp_path, number):
    ends: Counter[str] = check_deliveries(number, SEED, tmp_path)
    assert min(ends["accepted"], ends["refused"]) > 10
