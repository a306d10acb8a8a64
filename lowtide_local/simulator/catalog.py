"""The models that the simulated provider knows: by name, by pattern, or any."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

import orjson

from .refusals import ApiError

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
"""Date that the provider puts behind a model's name: ``gpt-5.4-mini-2026-03-17``."""
_PREFIX = "openai/"
"""Prefix by which routers name the provider."""
_WILD = frozenset("*?[")


@cache
def priced_models() -> tuple[str, ...]:
    """Return every model that the shipped price table has a price for."""
    table = orjson.loads(resources.files("lowtide").joinpath("prices.json").read_bytes())
    return tuple(table["models"])


class Catalog:
    """Models by names and patterns. With ``strict``, any other model is unknown. A dated snapshot is known with its
    model."""

    def __init__(self, names: Sequence[str], *, strict: bool, created: int) -> None:
        self._names = names
        self._strict = strict
        self._created = created

    def knows(self, model: str) -> bool:
        if not self._strict:
            return True
        bare = _SNAPSHOT.sub("", model.removeprefix(_PREFIX))
        return any(fnmatchcase(each, pattern) for pattern in self._names for each in (model, bare))

    def admit(self, model: str) -> None:
        """Let a known model pass. Raises ApiError (404)."""
        if not self.knows(model):
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise ApiError(404, message, code="model_not_found")

    def model(self, name: str) -> dict[str, Any]:
        """Return the model's object. Raises ApiError (404)."""
        self.admit(name)
        return {"id": name, "object": "model", "created": self._created, "owned_by": "simulated"}

    def listed(self) -> dict[str, Any]:
        """Return the list of all models but those that are known by a pattern alone."""
        return {"object": "list", "data": [self.model(name) for name in self._names if not _WILD.intersection(name)]}
