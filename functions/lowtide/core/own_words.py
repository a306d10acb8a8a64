"""Take out of a provider's message what the provider surely says itself.

Many servers quote in a message what the sender wrote. A prompt must not be able to stop an account, so quotes are
removed, and nothing is read after words that announce one.
"""

from __future__ import annotations

import re

from .provider_errors import ProviderError

_READ, _SENTENCE = 2_000, 300
"""Characters of a message that are read, and characters of the squeezed text that are searched. A provider's own
sentence comes first, and quotes after it."""
_QUOTED = re.compile(
    r"```.*?(?:```|$)|`[^`]*(?:`|$)|\"[^\"]*(?:\"|$)|“[^”]*(?:”|$)|„[^“”]*(?:[“”]|$)|«[^»]*(?:»|$)|「[^」]*(?:」|$)"
    r"|(?<!\w)‘.*?(?:’(?!\w)|$)|(?<!\w)'.*?(?:'(?!\w)|$)|\{.*"
)
"""Quotes of every kind, to the end of the text if they are not closed. An apostrophe inside a word is none."""
_ECHO = re.compile(
    r"\b(?:inputs?|texts?|prompts?|content|query|payload|received|quote|excerpt|snippet|matched|value|conversation"
    r"|transcript|you (?:sent|said|wrote|asked)|user (?:input|message)"
    r"|(?:the )?user(?: \w+)? (?:said|says|asked|asks|wrote|sent))(?: \w+)?\s*[:=?]"
)
"""Words that announce what the sender wrote."""
_LEAD = re.compile(
    r"(?:(?:[\w.]*(?:error|exception)|http \d{3}|error code|(?:portkey|upstream|provider|gateway|api) error"
    r"|permission denied|access denied|forbidden|\d{3})\s*[:-]\s*)*(?:sorry, )?(?:please )?"
    r"(?:you have |you've |you |your |the |this |a |an |our )?"
)
"""Words that may stand before the provider's own sentence: ``Your``, or error names that routers add, such as
``litellm.BadRequestError: OpenAIException - ``."""
_QUESTION = re.compile(r"\?(\s|$)")
_PACE = re.compile(
    r"(?:per[ -]|/ ?)(?:second|sec|minute|min|hour|day)\b|rate limit|too many requests|concurren"
    r"|\b(?:[tri]pm|[tri]pd)\b|(?:try again|retry|please wait) (?:in|after|\d)"
)


def own_words(error: ProviderError) -> str:
    """Return the first characters of a message, in small letters, without what it quotes."""
    said = _QUOTED.sub("…", _squeezed(error))
    echo = _ECHO.search(said)
    return (said[: echo.start()] if echo else said)[:_SENTENCE]


def first_words(said: str) -> str:
    """Return the text from the provider's first own word on. A question is not the provider's."""
    lead = _LEAD.match(said)
    return "" if _QUESTION.search(said) else said[lead.end() if lead else 0 :]


def tells_a_pace(error: ProviderError) -> bool:
    """Does the message speak of a time that passes by itself? Some servers quote the name of the limit."""
    return _PACE.search(_squeezed(error)) is not None


def _squeezed(error: ProviderError) -> str:
    return " ".join((error.message or "").lower()[:_READ].split())
