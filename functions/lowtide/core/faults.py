"""What a model finds wrong with a message, as a refusal that names field, problem and remedy in one line."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .errors import Refused
from .refusals import RefusalCode
from .wording import kind, path, shown

_CODES = {
    "deadline_seconds": RefusalCode.INVALID_DEADLINE,
    "deadline_at": RefusalCode.INVALID_DEADLINE,
    "url": RefusalCode.UNSUPPORTED_ENDPOINT,
}
"""Fields whose faults have a code of their own; the others are ``invalid_task``."""

_PROMPTS = frozenset({"body", "payload", "request"})
"""Fields that hold somebody's text: their kind is told, never what is in them."""


def broken(field: str, problem: str) -> Refused:
    """``problem`` goes on from the field's name: ``is missing: give …``."""
    return Refused(_CODES.get(field, RefusalCode.INVALID_TASK), f"{field} {problem}", field=field)


def unknown(field: str, owner: type[BaseModel]) -> str:
    return f"{field} is no known field: remove it (known: {', '.join(owner.model_fields)})"


def refusal_of(model: type[BaseModel], found: ValidationError) -> Refused:
    """The first of the faults. The remedy is the field's description, which says what to give."""
    fault = found.errors(include_url=False, include_context=False)[0]
    steps = fault["loc"]
    field = path(steps)
    owner, rule = _rule(model, steps)
    if fault["type"] == "extra_forbidden":
        return Refused(RefusalCode.UNKNOWN_FIELD, unknown(field, owner), field=field)
    last = steps[-1]
    code = _CODES.get(str(last), RefusalCode.INVALID_TASK)
    if fault["type"] == "missing":
        return Refused(code, f"{field} is missing: give {rule}", field=field)
    told = kind(fault["input"]) if last in _PROMPTS else shown(fault["input"])
    return Refused(code, f"{field} is {told}: give {rule}", field=field)


def _rule(model: type[BaseModel], steps: tuple[int | str, ...]) -> tuple[type[BaseModel], str]:
    """The model that the last step belongs to, and what the deepest known field wants."""
    rule = ""
    for step in steps:
        field = model.model_fields.get(str(step))
        if field is None:
            break
        rule = field.description or ""
        model = _nested(field) or model
    return model, rule


def _nested(field: FieldInfo) -> type[BaseModel] | None:
    choices = (field.annotation, *get_args(field.annotation))
    return next((each for each in choices if isinstance(each, type) and issubclass(each, BaseModel)), None)
