"""The engines that the demo plays on."""

from __future__ import annotations

from enum import StrEnum


class EngineName(StrEnum):
    EMBEDDED = "embedded"
    MOTO = "moto"
    """The real handlers, wired from template.yaml, on a fake AWS."""
