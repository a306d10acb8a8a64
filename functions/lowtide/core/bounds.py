"""What routes.toml may hold for a number, a name or an address: what is taken here fails nowhere later.

Numbers are strict (``true`` is no 1), finite, and small enough that sums of times stay within the calendar and sums of
counts within 64 bits.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from .bodies import MODEL_CHARACTERS
from .model import LONGEST_S

MOST = 10**12
SHORTEST_S = 0.001
"""A clock tells no less. Much smaller numbers lie beyond the calendar once something is divided by them."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a character that cannot be printed; remove it")
    return text


def _none_or_a_moment(seconds: float) -> float:
    if 0 < seconds < SHORTEST_S:
        raise ValueError(f"is shorter than a clock can tell; give 0, or at least {SHORTEST_S} seconds")
    return seconds


def _http_url(text: str) -> str:
    try:
        url = urlsplit(text)
        _ = url.port  # raises where it is none
    except ValueError:
        url = None
    if url is None or url.scheme not in ("http", "https") or not url.hostname or not text.isprintable() or " " in text:
        raise ValueError("is no URL that begins with https:// or http://; give the address that ends in /v1")
    return text


Whole = Annotated[int, Field(strict=True, ge=0, le=MOST)]
Count = Annotated[int, Field(strict=True, ge=1, le=MOST)]
Rate = Annotated[float, Field(strict=True, ge=1, le=MOST)]
Seconds = Annotated[float, Field(strict=True, ge=SHORTEST_S, le=LONGEST_S)]
SecondsOrNone = Annotated[float, Field(strict=True, ge=0, le=LONGEST_S), AfterValidator(_none_or_a_moment)]
"""0 is allowed too."""
TasksPerSecond = Annotated[float, Field(strict=True, ge=0.01, le=MOST)]
"""At one task in 100 s the answers to a whole batch take two months."""
WholeSeconds = Annotated[int, Field(strict=True, ge=1, le=LONGEST_S)]
Number = Annotated[int, Field(strict=True, ge=-MOST, le=MOST)] | Annotated[float, Field(strict=True, ge=-MOST, le=MOST)]
"""Any that a request's body can carry."""
Name = Annotated[str, Field(min_length=1, max_length=MODEL_CHARACTERS), AfterValidator(_printable)]
ProviderName = Annotated[str, Field(pattern=r"^[!-~]{1,64}$")]
"""Text without a space, which tells an account's row from a model's (``pace_rows``)."""
Text = Annotated[str, Field(min_length=1)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
