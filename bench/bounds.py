"""What a hostile megabyte costs the processor: ``make bench-bounds``. Every parser of strangers' input has its cases.

Prints a line for each case, the dearest first, and exits 1 where one took more than ``--limit-s`` seconds of CPU.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time

from .hostile import CASES, MIB


def main() -> int:
    """Returns the exit code."""
    asked = argparse.ArgumentParser(prog="python -m bench.bounds", description=__doc__)
    asked.add_argument("--bytes", type=int, default=MIB)
    asked.add_argument("--limit-s", type=float, default=0.5)
    options = asked.parse_args()
    took: dict[str, float] = {}
    for name, case in CASES.items():
        parse = case(options.bytes)
        gc.collect()
        began = time.process_time()
        parse()
        took[name] = time.process_time() - began
    for name, seconds in sorted(took.items(), key=lambda pair: -pair[1]):
        print(f"{seconds:7.3f} s  {name}")
    over = [name for name, seconds in took.items() if seconds > options.limit_s]
    print(
        f"{len(took)} cases of {options.bytes} bytes, {len(over)} above {options.limit_s:g} s of CPU", file=sys.stderr
    )
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
