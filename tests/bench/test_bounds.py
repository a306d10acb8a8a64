"""Every parser of what strangers send, on hostile input: work that grows with the input and no faster.

What Python does is counted: calls and lines. What a C function does inside one call cannot be, so that a megabyte must
also be parsed in CPU seconds that no linear parser comes near. ``make bench-bounds`` holds each case to half a second.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.hostile import CASES, DOOR, MIB, routes
from lowtide.core.message import MESSAGE_BYTES

ROOT = Path(__file__).resolve().parents[2]
SMALL = 16_384
FAR_TOO_LONG_S = 10.0
"""Twenty times the bound. Quadratic work on a megabyte takes minutes."""


def counted(parse: Callable[[], object]) -> int:
    """Calls of functions, Python's and C's."""
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        parse()
    finally:
        sys.setprofile(None)
    return calls


@pytest.fixture(autouse=True, scope="module")
def _loaded():
    routes()


@pytest.mark.parametrize("name", CASES)
def test_twice_the_input_takes_at_most_twice_the_calls(name):
    CASES[name](SMALL)()
    once, twice = counted(CASES[name](SMALL)), counted(CASES[name](2 * SMALL))
    assert twice <= 2.2 * once + 500, f"{once} calls for {SMALL} bytes, {twice} for twice as many"


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_megabyte_takes_no_minutes(name):
    parse = CASES[name](MIB)
    began = time.process_time()
    parse()
    assert time.process_time() - began < FAR_TOO_LONG_S


def test_the_cases_are_as_large_as_a_message_may_be():
    sizes = {name: len(make(MIB).encode()) for name, make in DOOR.items()}
    assert all(0.8 * MIB < size <= MESSAGE_BYTES for size in sizes.values()), sizes


def test_the_benchmark_fails_where_a_bound_is_broken():
    command = [sys.executable, "-m", "bench.bounds", "--bytes", "2000", "--limit-s", "0.000001"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{len(CASES)} cases" in done.stderr
