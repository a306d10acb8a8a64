"""Names of types, tenants and tags, as they are compared: however a sender spells one, it is the same name.

Equal are names that differ only in case, in accents, in how characters are encoded (full width, ligatures), in
characters that nobody sees, in the blanks, dashes and underscores between words, and in letters of other alphabets that
look like Latin ones. Only comparisons go by it; everywhere else a name stays as it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from unicodedata import category, normalize

from .bodies import MODEL_CHARACTERS

_BETWEEN = re.compile(r"[\s_-]+")
_BLANKS_AND_DASHES = frozenset({"Pd", "Pc", "Zs", "Zl", "Zp"})
_UNSEEN = frozenset({"Cf", "Cc", "Cs"})
_ACCENTS = range(0x300, 0x370)
_LOOKALIKES: dict[int, str | None] = {
    **dict(zip(map(ord, "аеіјорсѕухԁһӏкмтвнгпԛԝү"), "aeijopcsyxdhlkmtbhrnqwy", strict=True)),  # Cyrillic
    **dict(zip(map(ord, "αβεικνορτυχ"), "abeikvoptux", strict=True)),  # Greek
    **dict(zip(map(ord, "ıɑɡ\N{MINUS SIGN}"), "iag-", strict=True)),
    **dict.fromkeys((0x115F, 0x1160, 0x3164, 0x2800, 0x17B4, 0x17B5, *range(0xFE00, 0xFE10), *_ACCENTS)),  # unseen
}
"""Small letters. None: left out."""


def folded(name: str) -> str:
    """Return the spelling that a name is compared by: of ``key=value`` each half for itself. A name too long for any
    list is returned as it is, because to put its accents in order takes quadratic time."""
    key, equals, value = name.partition("=")
    return _folded(key) + equals + _folded(value)


@lru_cache(maxsize=64)
def by_spelling(names: frozenset[str]) -> Mapping[str, str]:
    """Each name as it is written, by the spelling that it is compared by."""
    return {folded(name): name for name in names}


def _folded(name: str) -> str:
    if name.isascii() and name.isprintable():
        return _BETWEEN.sub("_", name.lower()).strip("_")
    seen = "".join(char for char in name if category(char) not in _UNSEEN)
    if len(seen) > MODEL_CHARACTERS:
        return name
    plain = normalize("NFKD", normalize("NFKD", seen).casefold()).translate(_LOOKALIKES)
    spaced = "".join("_" if category(char) in _BLANKS_AND_DASHES else char for char in plain)
    return _BETWEEN.sub("_", spaced).strip("_")
