"""Say whose fault a refusal is. One table serves calls, lines of result files, batches, files and creations.

Codes and types are read first: only the provider writes them. One that names the account decides. One that names the
request, or a field of it, leaves the message unread. Otherwise the message decides (account_words.py).
docs/compatibility.md lists codes and sentences with their sources.
"""

from __future__ import annotations

import re
from enum import StrEnum, auto
from http import HTTPStatus

from .account_words import names_account, speaks_of_account
from .own_words import own_words
from .provider_errors import ProviderError, words


class Fault(StrEnum):
    ITEM = auto()
    """This request will always be refused. Its task is dead, and no other."""
    NOW = auto()
    """This request is refused at this moment: too fast, no capacity, a conflict."""
    BATCH = auto()
    """This batch or its file. It is uploaded and submitted again, whole."""
    ACCOUNT = auto()
    """The account or its key. Nothing is sent until an operator has acted."""
    PROVIDER = auto()
    """The provider itself."""
    UNNAMED = auto()
    """The refusal does not say. A 403 or 404 that names neither a model nor content is the item's fault if other calls
    are answered, else the account's or the address's."""


_UNNAMED_STATUSES = frozenset({403, 404, 405, 407, 410, 412, 451})
"""Statuses that a forbidden key or a wrong address causes as well as a single request."""
_NOW_STATUSES = frozenset({408, 409, 423, 425, 429, 498})
_CAPACITY_EXCEEDED = 498
"""Groq's status for flex without capacity. Source: its guide to flex processing."""
_LACKING = r"^(flex_)?(resource|capacity)_(unavailable|exceeded|exhausted|insufficient)$"
_NO_CAPACITY = re.compile(_LACKING + r"|^no_capacity$")
_NOW_WORDS = re.compile(
    rf"{_LACKING}|^slow_down$|rate_?limit|too_many_(requests|tokens)|throttl|^request(s)?_limit_(exceeded|reached)$"
    r"|concurren\w*_(limit|exceeded)|^(active_)?batch(es)?_limit_(exceeded|reached)$|_per_(second|minute|hour|day)(_|$)"
)
_PROVIDER_WORDS = re.compile(
    r"^(server|internal|service_(?!tier)|system_error|http_5|timeout|overloaded|upstream|backend|bad_gateway|gateway)"
    r"|^(?!invalid|unsupported|missing)(\w+_)?(overloaded|loading|not_ready|warming_up|starting|busy|timed_out|timeout"
    r"|temporarily_unavailable|(db|database|upstream|connection|backend|network|gateway)_(connection|error|failed|failure"
    r"|refused|reset|unavailable|unreachable)|high_demand|failed_dependency)(_error|_exception)?$"
)
_PROVIDER_SAID = re.compile(
    r"(the )?(model|engine|server|service)( [^ ]+){0,2} (is )?(currently |still |temporarily )?"
    r"(loading|starting|warming up|overloaded|unavailable|busy)\b|no connected db|failed dependency|bad gateway"
)
"""First words with which a server speaks of itself, whatever its status."""
_OWN_FAILURES = frozenset({"server_error", "internal_error", "internal_server_error"})
"""Codes of the provider's own failure. In the errors of a failed batch a field beside them says no more."""
_PROVIDER_STATUSES = frozenset({HTTPStatus.FAILED_DEPENDENCY})
"""Statuses below 500 that are the provider's: TGI says 424 where its own engine fails."""

_OF_ITEM_WORDS = re.compile(
    r"(^|_)(models?|deployment|engine|content|policy_violation|moderation|prompt|safety|flagged|parameter|value"
    r"|context_length|previous_response|image|audio|censor\w*|sensitive|guardrails?)(_|$)|string_above"
)
_OF_ITEM_SAID = re.compile(
    r"\b(models?|deployment|engine|(content|usage|safety|moderation) polic(y|ies)|content (management|filter)"
    r"|moderation|flagged|prompt|with id|file-\w+|no such file|vector store|conversation|no endpoints found)\b"
)
_NO_ACCESS_TO_MODEL = re.compile(
    r"(not allowed to|does not have|doesn't have|do not have|don't have|no) access (to )?"
    r"(the )?(requested )?(model|engine)"
)
_OF_TOKENS = re.compile(r"\btokens?\b|\btp[mdh]\b")
_OF_CALLS = re.compile(r"\b(requests?|calls|images|batches) (\(or \w+\) )?per |\b(rp|ip)[mdh]\b")
_TOO_LARGE = re.compile(r"request too large|(input|output) (or output )?tokens must be reduced")
_READ, _SENTENCE = 2_000, 300
"""Characters of a message that are read, and of the squeezed text that are searched."""
_LIMIT = re.compile(r"\blimit:?\s*(\d[\d,]*)")
_REQUESTED = re.compile(r"\brequested:?\s*(\d[\d,]*)")

_BATCH_FIELDS = frozenset(
    {"file", "file_id", "input_file", "input_file_id", "purpose", "endpoint", "completion_window", "metadata"}
    | {"output_expires_after", "expires_after"}
)
_BATCH_WORDS = re.compile(
    r"(^|_)(?<!image_)(?<!audio_)(?<!video_)(?<!pdf_)file(?!_(search|data|is_too|too|size))(_|$)"
    r"|(^|_)(endpoint|metadata)(_|$)|completion_window|^(invalid_)?window(_|$)"
)
_LINE_WORDS = re.compile(
    r"(^|_)(jsonl?|lines?|pars(e|er|ing)|encoding|utf_?8|custom_ids?)(_|$)|(^|_)(image|audio|video|pdf|file_search)(_|$)"
    r"|file_(is_)?(too_large|too_big|too_long|size)|context_window"
)
_SAYS_NOTHING = re.compile(
    r"^(unknown|unspecified|other|general|failed|failure|error|exception|unexpected|batch|batch_failed|processing)"
    r"(_(processing|failed|failure|error|exception))*$"
)
"""Codes of a failed batch that name neither a line nor a reason. Halves of the file would fail the same way."""
_LINE_SAID = re.compile(r"\b(lines?|row|request) (number |no\.? |#)?\d+")
"""Codes and sentences that speak of some line of the file, or of its size. Halves of the file find the line."""
_BATCH_SAID = re.compile(
    r"(cannot|could not|can't|unable to|failed to) (find|download|fetch|open|access) (the )?(input )?file|no such file"
    r"|file .{0,80}not found|file (could not|cannot|can't) be (found|downloaded|fetched|opened|accessed)"
)
_NO_SUCH_DOOR = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
_KEY_STATUSES = frozenset({401, 402, 403, 407})


def fault_of_request(error: ProviderError, *, told_to_wait: bool = False) -> Fault:
    """Judge the refusal of a call, or of a line of a result file. ``told_to_wait``: a ``Retry-After`` came with it."""
    status = error.status or 0
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and _denies_the_model(error):
        return Fault.ITEM
    if of_account(error, told_to_wait=told_to_wait):
        return Fault.ACCOUNT
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Fault.NOW if "slow_down" in words(error) else Fault.PROVIDER
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or _never_passes(error):
        return Fault.ITEM
    if status in _NOW_STATUSES or any(_NOW_WORDS.search(word) for word in words(error)):
        return Fault.NOW
    if status in _PROVIDER_STATUSES or _speaks_of_itself(error):
        return Fault.PROVIDER
    if names_item(error):
        return Fault.ITEM
    if error.page or status in _UNNAMED_STATUSES or status < HTTPStatus.BAD_REQUEST:
        return Fault.UNNAMED
    return Fault.ITEM


def fault_of_batch(error: ProviderError) -> Fault:
    """Judge a refused upload, creation, look, cancel or download, or one of the ``errors`` of a failed batch (status
    None). ITEM: some line of the batch is at fault. UNNAMED: the batch, or some line of it, is at fault."""
    status = error.status
    if of_account(error) or status in _KEY_STATUSES:
        return Fault.ACCOUNT
    if status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _NO_SUCH_DOOR:
        return Fault.PROVIDER
    if status in _NOW_STATUSES or any(_NOW_WORDS.search(word) for word in words(error)):
        return Fault.NOW
    if status in _PROVIDER_STATUSES or _speaks_of_itself(error):
        return Fault.PROVIDER
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Fault.ITEM
    if _names_batch(error) or status in _NO_SUCH_DOOR:
        return Fault.BATCH
    if status is None:
        return Fault.PROVIDER if _says_nothing(error) else Fault.ITEM
    return Fault.ITEM if names_item(error) or _names_line(error) else Fault.UNNAMED


def of_account(error: ProviderError, *, told_to_wait: bool = False) -> bool:
    """Is the account at fault: its credit, a spending limit, its key, its country, a scope?"""
    if names_account(error, told_to_wait=told_to_wait):
        return True
    return not _coded_item(error) and speaks_of_account(error, told_to_wait=told_to_wait)


def only_forbidden(error: ProviderError) -> bool:
    """Is this a 403 that does not speak of money or of the whole account? The key may be barred from batches alone."""
    whole = re.compile(r"quota|credit|balance|billing|budget|limit|payment|country|region|account|organi[sz]ation")
    return error.status == HTTPStatus.FORBIDDEN and not any(whole.search(word) for word in words(error))


def no_capacity(error: ProviderError) -> bool:
    """Does the lane that was asked for have no capacity?"""
    return error.status == _CAPACITY_EXCEEDED or any(_NO_CAPACITY.search(word) for word in words(error))


def names_item(error: ProviderError) -> bool:
    """Does the refusal speak of the request: a field, its model, its content?"""
    if _coded_item(error):
        return True
    return not error.page and _OF_ITEM_SAID.search(_said(error)) is not None


def _coded_item(error: ProviderError) -> bool:
    return bool(error.param) or any(_OF_ITEM_WORDS.search(word) for word in words(error))


def _speaks_of_itself(error: ProviderError) -> bool:
    """Does the provider say that it failed itself, whatever the status? A field or content at fault decides first."""
    if error.param and (error.status is not None or _OWN_FAILURES.isdisjoint(words(error))):
        return False
    if any(_PROVIDER_WORDS.search(word) for word in words(error)):
        return True
    return not _coded_item(error) and error.status is not None and _PROVIDER_SAID.match(own_words(error)) is not None


def names_model(error: ProviderError) -> bool:
    """Does the refusal say that the model is unknown?"""
    return any(re.search(r"(model|deployment)_not_found", word) for word in words(error))


def _denies_the_model(error: ProviderError) -> bool:
    """Is the key barred from this model? It may use others."""
    return any("model_access_denied" in word for word in words(error)) or (
        _NO_ACCESS_TO_MODEL.search(_said(error)) is not None
    )


def _never_passes(error: ProviderError) -> bool:
    """Does the request ask for more tokens than the limit of a whole minute? Waiting does not make it smaller. A limit
    of requests says nothing of this one, and a limit of 0 nothing of its size."""
    said = own_words(error)
    limit, requested = _LIMIT.search(said), _REQUESTED.search(said)
    if limit is not None and _count(limit) == 0:
        return False
    if _TOO_LARGE.search(said):
        return True
    before = said if limit is None else said[: limit.start()]
    of_tokens = _OF_TOKENS.search(before) is not None or any("token" in word for word in words(error))
    if limit is None or requested is None or not of_tokens or _OF_CALLS.search(before):
        return False
    return _count(requested) > _count(limit)


def _count(found: re.Match[str]) -> int:
    return int(found.group(1).replace(",", "")[:18])


def _names_batch(error: ProviderError) -> bool:
    steps = (error.param or "").lower().replace("[", ".").split(".")
    # In the errors of a failed batch ``body`` is the body of a line.
    of_a_line = error.status is None and steps[0] == "body"
    if not of_a_line and not _BATCH_FIELDS.isdisjoint(steps):
        return True
    if _names_line(error):
        return False
    return any(_BATCH_WORDS.search(word) for word in words(error)) or _BATCH_SAID.search(_said(error)) is not None


def _says_nothing(error: ProviderError) -> bool:
    """Does the error of a failed batch name neither a line nor a reason?"""
    if error.param or names_item(error) or _names_line(error):
        return False
    return all(_SAYS_NOTHING.match(word) for word in words(error))


def _names_line(error: ProviderError) -> bool:
    """Does the refusal of a file speak of one of its lines, or of its size?"""
    return any(_LINE_WORDS.search(word) for word in words(error)) or _LINE_SAID.search(_said(error)) is not None


def _said(error: ProviderError) -> str:
    return " ".join((error.message or "").lower()[:_READ].split())[:_SENTENCE]
