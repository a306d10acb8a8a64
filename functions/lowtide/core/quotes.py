"""A prompt that a provider repeats in the text of a refusal, taken out of that text.

Records, letters, the report and events are read by more people and programs than prompts are. What is compared is what
the task asked with: whole texts, and runs of them. Linear in the length of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from .task import AcceptedTask

T = TypeVar("T")

PROMPT = "(prompt)"
"""What stands in a text where a part of the prompt stood."""

WHOLE = 8
"""Characters from which a text that is repeated whole is taken out."""
RUN = 20
"""Characters from which a part of one is. Shorter runs are words that any two texts share."""
_BLOCK = (RUN + 1) // 2
"""Characters: every run of ``RUN`` contains a whole block, wherever in the text blocks begin."""
_COMPARED = 1_000_000
"""Characters of a prompt that are compared. What follows is a picture or a book."""
_PLACES = 8
"""Places in the prompt that are remembered of one block."""

_ASKED_WITH = ("messages", "input", "instructions", "prompt")
"""Fields of a body that hold what was asked. Others hold names and numbers, which a refusal should name."""


_SPOKEN_OF = frozenset({"call_id", "detail", "format", "id", "name", "role", "status", "tool_call_id", "type"})
"""Fields beside those texts whose values a refusal names, too: ``role`` is no part of what was asked."""


_QUOTES = re.compile(r"\"[^\"]*\"|`[^`]*`|“[^”]*”|«[^»]*»|„[^“]*“|(?<!\w)['‘].*['’](?!\w)", re.DOTALL)
"""From the first single mark to the last, because those inside may be apostrophes."""

_ADDRESS = re.compile(r":?\s*https://[\w./#-]+")
_MAY_QUOTE = re.compile(r"[:\"`“”„«»‹›‘‚(){}<>\[\]\n]|(?<!\w)['’]|['’](?!\w)")


def may_quote(said: str) -> bool:
    """Tell whether a sentence about many tasks may repeat what one of them asked, with marks around it or after a
    colon. The address of a page is no such thing."""
    return _MAY_QUOTE.search(_ADDRESS.sub("", said)) is not None


def unquoted(said: str) -> str:
    """Return a sentence about many tasks without what it quotes: that may be the prompt of one of them."""
    return _QUOTES.sub("(quoted)", said)


class Prompt:
    """The texts that a task asked with. ``without(said)`` is ``said`` with ``(prompt)`` where it repeats them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._short: dict[str, list[str]] = {}
        self._blocks: dict[str, list[tuple[str, int]]] = {}
        for text in _bounded(texts):
            if WHOLE <= len(whole := text.strip()) < RUN:
                _remember(self._short, whole[:WHOLE], whole)
            for place in range(0, len(text) - _BLOCK + 1, _BLOCK):
                block = text[place : place + _BLOCK]
                if not block.isspace():
                    _remember(self._blocks, block, (text, place))

    @classmethod
    def of(cls, task: AcceptedTask) -> Prompt:
        body = task.body
        if body is None:
            return cls([*_texts(task.message.get("payload")), *([task.prompt] if task.prompt else [])])
        return cls(text for name in _ASKED_WITH for text in _texts(body.get(name)))

    def without(self, said: str) -> str:
        kept, done, place = [], 0, 0
        while place <= len(said) - WHOLE:
            start, end = self._repeated(said, place, done)
            if start < end:
                kept += [said[done:start], PROMPT]
                done = place = end
            else:
                place += 1
        return "".join([*kept, said[done:]])

    def without_in(self, value: Any) -> Any:
        """A JSON value, each of whose texts is ``without`` the prompt."""
        match value:
            case str():
                return self.without(value)
            case list():
                return [self.without_in(each) for each in value]
            case dict():
                return {name: self.without_in(inner) for name, inner in value.items()}
            case _:
                return value

    def _repeated(self, said: str, place: int, least: int) -> tuple[int, int]:
        """Where what begins at ``place`` is repeated, from ``least`` on; an empty stretch where it is not."""
        longest = (place, place)
        for whole in self._short.get(said[place : place + WHOLE], ()):
            if said.startswith(whole, place) and _alone(said, place, place + len(whole)):
                longest = (place, place + len(whole))
        for text, at in self._blocks.get(said[place : place + _BLOCK], ()):
            start, end = place, place + _BLOCK
            before, after = at, at + _BLOCK
            while start > least and before > 0 and said[start - 1] == text[before - 1]:
                start, before = start - 1, before - 1
            while end < len(said) and after < len(text) and said[end] == text[after]:
                end, after = end + 1, after + 1
            if end - start >= max(RUN, longest[1] - longest[0]):
                longest = (start, end)
        return longest


def _remember(places: dict[str, list[T]], key: str, place: T) -> None:
    known = places.setdefault(key, [])
    if len(known) < _PLACES:
        known.append(place)


def _alone(said: str, start: int, end: int) -> bool:
    """Is it no part of a longer word?"""
    return not (said[start - 1 : start].isalnum() and said[start].isalnum()) and not (
        said[end : end + 1].isalnum() and said[end - 1].isalnum()
    )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names of fields aside. Without recursion: senders nest as deeply as they like."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case list() as inner:
                waiting += inner
            case dict() as inner:
                waiting += [each for name, each in inner.items() if name not in _SPOKEN_OF]


def _bounded(texts: Iterable[str]) -> Iterator[str]:
    left = _COMPARED
    for text in texts:
        if left <= 0:
            return
        yield text[:left]
        left -= len(text)
