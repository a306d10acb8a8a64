"""What holds for all tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import botocore.session
from botocore.loaders import Loader
from hypothesis import settings

# A busy machine is no defect: no example fails for the time that it took.
settings.register_profile("lowtide", deadline=None)
settings.load_profile("lowtide")


class _Distinct(list[str]):
    """The loader's search path. Each session of boto3 appends its own directory, which is always the same one."""

    def append(self, path: str) -> None:
        if path not in self:
            super().append(path)


def _shared_loaders() -> None:
    """Let all sessions of this process share one loader of service models for each search path.

    moto begins each test with a new default session, and each container and command makes one of its own. Without this
    each of them parses the same JSON again: 0.1 to 0.3 seconds of CPU for the clients of one test.
    """
    create = botocore.session.create_loader

    @cache
    def shared(search_path: Any = None) -> Loader:
        loader = create(search_path)
        loader._search_paths = _Distinct(loader._search_paths)
        return loader

    botocore.session.create_loader = shared


_shared_loaders()
