"""The benchmark's own figure, small enough for every run: memory must not grow with the batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIZE = ("--tasks", "3000", "--output-mb", "24")
LIMIT_MB = 32
"""Held whole, this batch takes 50 MB and more; as a stream, half of the limit."""


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.memory", *SIZE, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak by itself")
def test_a_batch_is_assembled_and_collected_within_its_bound():
    done = bench("--limit-mb", str(LIMIT_MB))
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"answered": 2910' in done.stdout
    assert '"staged": 90' in done.stdout


def test_the_benchmark_fails_where_the_bound_is_broken():
    done = bench("--tasks", "300", "--output-mb", "1", "--limit-mb", "0.1")
    assert done.returncode == 1, done.stderr
    assert "BROKEN" in done.stdout
