"""Hundreds of routes files as no deployer should write them: refused with a line, or in force and of use.

``make fuzz`` reads ten thousand. A failure names its seed and its file.
"""

from __future__ import annotations

from random import Random

from tests.garbled.check_routes import RoutesCheck
from tests.garbled.routes import WHOLE, routes_file, shipped

FILES = 400
SEED = "20260307"


def test_of_hundreds_of_garbled_routes_files_each_is_refused_with_a_line_or_serves_every_task():
    check, ends = RoutesCheck(), {"refused": 0, "loaded": 0}
    for number in range(FILES):
        try:
            ends[check(routes_file(Random(f"{SEED} routes {number}")))] += 1
        except Exception as error:
            error.add_note(f"seed {SEED}, routes file {number}")
            raise
    # Not because nothing could be read, or everything.
    assert min(ends.values()) * 20 > FILES


def test_what_is_no_routes_file_at_all_is_refused_and_the_next_good_one_is_taken():
    check = RoutesCheck()
    assert {check(text) for text in WHOLE} == {"refused"}
    assert check(shipped() + "\n# Changed.\n") == "loaded"
