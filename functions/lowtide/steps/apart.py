"""Apart: what fails harms itself alone, and is told once the others have had their turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lowtide.core.errors import safely_told
from lowtide.ports import System


@contextmanager
def apart(system: System, errors: list[Exception], event: str, **names: object) -> Iterator[None]:
    """What fails in here is logged as ``event`` and added to ``errors``, which the caller raises or returns at last."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours go on
        system.metrics.log(event, **names, error=safely_told(error))
        errors.append(error)
