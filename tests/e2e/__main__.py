"""`make e2e`: the deployed template on MiniStack, with real event sources, schedules and functions, on a wall clock.

The exit code is 1 when a check fails, or when something that is waited for does not happen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from lowtide_local.operate.desk import opened

from .accounts import audit
from .deployment import STACK, deployed
from .emulator import emulated
from .findings import Findings
from .story import Story

MEMORY = Path("/dev/shm")
"""Where there is one: MiniStack unpacks the functions anew for each process, which takes a slow disk long."""


def main() -> int:
    arguments = argparse.ArgumentParser(prog="make e2e", description=__doc__)
    arguments.add_argument("--ministack", type=Path, required=True, help="MiniStack's program")
    arguments.add_argument("--packages", type=Path, required=True, help="what the functions need, installed")
    arguments.add_argument("--logs", type=Path, required=True, help="where the logs of a run that failed go")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    findings = Findings(Console(width=160))
    with tempfile.TemporaryDirectory(prefix="lowtide-e2e-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        scratch = Path(folder)
        try:
            _run(given.ministack.absolute(), given.packages.absolute(), scratch, findings)
        finally:
            logs = [Path(shutil.copy(log, given.logs)) for log in scratch.glob("*.log")]
    findings.show()
    if findings.failed:
        sys.stderr.write(f"look at {' and '.join(map(str, logs))}\n")
    return 1 if findings.failed else 0


def _run(ministack: Path, packages: Path, scratch: Path, findings: Findings) -> None:
    with emulated(ministack, scratch) as emulator:
        os.environ.update(emulator.environment)
        findings.say(f"MiniStack is at {emulator.url}")
        try:
            with deployed(emulator, packages, scratch) as deployment, opened(STACK, None) as desk:
                findings.say("the stack is deployed")
                Story(emulator, deployment, desk, findings).play()
                audit(deployment, desk, findings)
        except Exception as error:  # noqa: BLE001 - whatever it is, what was found before is shown
            findings.check("the run came to its end", False, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
