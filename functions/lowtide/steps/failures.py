"""What the provider said of lines that may yet succeed, kept on disk until all files are read."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import replace

import orjson

from lowtide.core.documents import kept
from lowtide.core.outcomes import Again, Response

from .spool import Spooled

Failure = tuple[Again, Response | None]


class SpooledFailures(Spooled, MutableMapping[str, Failure]):
    """By ``custom_id``. Every line of a batch may have failed, each with a body of its own: memory holds where."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[str, int] = {}

    def __setitem__(self, custom_id: str, failure: Failure) -> None:
        again, response = failure
        # As a record would keep it: what is nested too deeply to be written down is text from here on.
        told = None if response is None else replace(response, body=kept(response.body))
        self._places[custom_id] = self._file.seek(0, 2)
        self._file.write(orjson.dumps((again, told)) + b"\n")

    def __getitem__(self, custom_id: str) -> Failure:
        self._file.seek(self._places[custom_id])
        again, response = orjson.loads(self._file.readline())
        return Again(**again), None if response is None else Response(**response)

    def __delitem__(self, custom_id: str) -> None:
        del self._places[custom_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
