"""Every bound on tokens and every number of answers in a request body, however a provider spells it and wherever.

Compatible servers read such fields at the top, in ``extra_body`` or ``options``, in ``generationConfig``, and in the
settings of thinking and reasoning. Names are compared without case, dashes and underscores. Prompts and schemas are not
looked into: a word in them is no setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from .body_models import Way

_PURPOSE = "new|gen|generated|generation|completion|output|response|answer|thinking|reasoning|decode|total"
_LIMIT = re.compile(
    rf"(?:max|min|num|n)(?:{_PURPOSE})*(?:tokens?|toks?|len|length)(?:tosample|togenerate|count|limit)?"
    r"|n(?:um)?predict|tokens?(?:togenerate|limit)"
    r"|(?:thinking|reasoning)tokens?|(?:(?:thinking|reasoning|output|completion)*(?:tokens?)?)budget(?:tokens?)?"
)
"""Limits of prompts are none of these: they cost no more than the task's own text."""
_FAN_OUTS = frozenset(
    {"n", "bestof", "candidatecount", "choicecount", "numreturnsequences", "numcandidates", "numchoices", "numsamples"}
    | {"numcompletions", "numresponses", "numgenerations", "numoutputs", "samplecount"}
)
_LONGEST_NAME = 64
_FINITE = 1e15
"""Beyond it, and for what is no number at all, nobody knows how a value is read."""
_HINTS = re.compile(r"tok|len|budget|predict|^n$|^best|^num|count$", re.IGNORECASE)
"""What each such name has in it: most names have none of it, and need no closer look."""
_OPAQUE = frozenset(
    {"messages", "input", "instructions", "metadata", "prompt", "contents", "prediction", "logitbias", "headers"}
    | {"extraheaders", "toolchoice", "guidedjson", "json"}
)
_OPAQUE_ENDS = ("schema", "parameters")


class Kind(StrEnum):
    LIMIT = "limit"
    FAN_OUT = "fan-out"


class Found(NamedTuple):
    """``number`` is the value as a provider may read it; None: no number, and nobody knows how it is read."""

    way: Way
    kind: Kind
    value: Any
    number: float | None


def spelling(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


def limits_in(body: dict[str, Any]) -> Iterator[Found]:
    """Yield each bound and number of answers that is given a value."""
    waiting: list[tuple[Way, Any]] = [((), body)]
    while waiting:
        way, value = waiting.pop()
        if isinstance(value, list):
            waiting += [((way, at), inner) for at, inner in enumerate(value) if isinstance(inner, dict | list)]
            continue
        for name, inner in value.items():
            if isinstance(inner, dict | list):
                spelt = spelling(name)
                if spelt not in _OPAQUE and not spelt.endswith(_OPAQUE_ENDS):
                    waiting.append(((way, name), inner))
            elif isinstance(inner, int | float | str) and not isinstance(inner, bool) and (kind := _kind(name)):
                yield Found((way, name), kind, inner, _number(inner))


def answers_asked(body: dict[str, Any]) -> int:
    """How many answers a request asks for; each may be as long as its limit."""
    return answers_of(limits_in(body))


def answers_of(found: Iterable[Found]) -> int:
    counts = (each.number for each in found if each.kind is Kind.FAN_OUT)
    return max((int(count) for count in counts if count is not None and count >= 1), default=1)


def _kind(name: str) -> Kind | None:
    if len(name) > _LONGEST_NAME or _HINTS.search(name) is None:
        return None
    spelt = spelling(name)
    if spelt in _FAN_OUTS:
        return Kind.FAN_OUT
    return Kind.LIMIT if _LIMIT.fullmatch(spelt) else None


def _number(value: Any) -> float | None:
    """A text that holds a number is read as one by lenient servers."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < _FINITE else None
