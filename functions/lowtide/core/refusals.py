"""The stable codes of a refusal at the door. Each is one kind of mistake, with one kind of remedy."""

from __future__ import annotations

from enum import StrEnum


class RefusalCode(StrEnum):
    """``Refused.code``. Codes are added, never renamed: senders' programs read them."""

    INVALID_JSON = "invalid_json"
    """Not JSON text that can be carried unchanged: cut off, NaN, a name given twice, broken Unicode."""
    INVALID_TASK = "invalid_task"
    """A field of the task is missing or breaks its rule."""
    UNKNOWN_FIELD = "unknown_field"
    """A field that no task has: refused rather than dropped, since somebody meant something by it."""
    INVALID_DEADLINE = "invalid_deadline"
    """A deadline that is not ahead, has no time zone, or is given twice."""
    UNSUPPORTED_ENDPOINT = "unsupported_endpoint"
    """A URL that answers no tasks, or one that the model does not answer."""
    INVALID_REQUEST = "invalid_request"
    """A request body that the provider would certainly refuse."""
    UNSUPPORTED_FIELD = "unsupported_field"
    """A field of the body that asks for what a queue cannot do, such as streaming."""
    MODEL_NOT_ALLOWED = "model_not_allowed"
    """The deployment has a list of models, and this one is not on it."""
    MAX_TOKENS_OVER_CAP = "max_tokens_over_cap"
    """The request may write more tokens than the deployment allows."""
    REPLY_TO_NOT_ALLOWED = "reply_to_not_allowed"
    """The reply queue is not on the deployment's list."""
    TOO_LARGE = "too_large"
    """A message beyond 1 MiB."""
    ID_CONFLICT = "id_conflict"
    """The id is taken by a task with other content (found at the claim, not at the door)."""
