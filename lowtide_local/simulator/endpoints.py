"""The endpoints that the simulated provider serves, as calls and in batches."""

from __future__ import annotations

from enum import StrEnum


class Endpoint(StrEnum):
    """Values are those of ``lowtide.core.task.Endpoint``, with one more that lowtide itself never asks."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"
    EMBEDDINGS = "/v1/embeddings"
    COMPLETIONS = "/v1/completions"
