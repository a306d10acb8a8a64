"""Say whose fault a refusal is. One table serves calls, lines of result files, batches, files and creations.

Codes and types are read first: only the provider writes them. The message is read if they do not decide. Many servers
quote in it what the sender wrote, and a prompt must not be able to stop an account. So only messages of some statuses
are searched; of the others only the first words count. docs/compatibility.md lists codes and sentences with their
sources.
"""

from __future__ import annotations

import re
from enum import StrEnum, auto
from http import HTTPStatus

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
_NO_CAPACITY = frozenset({"resource_unavailable", "capacity_exceeded"})
_NOW_WORDS = re.compile(
    r"^slow_down$|^resource_(exhausted|unavailable)$|^capacity_exceeded$|rate_?limit|too_many_requests|throttl"
)
_PROVIDER_WORDS = re.compile(r"^(server|internal|service_(?!tier)|system_error|http_5|timeout|overloaded|upstream)")

_ACCOUNT_WORDS = re.compile(
    r"""
      insufficient_(\w+_)?(quota|balance|credits?|funds|scopes?|permissions?) | quota_(is_)?not_enough
    | (exceeded|pre_consume)_(current_|token_)?quota
    | (^|_)(credits?|balance)_(balance_)?(limit|exhausted|depleted|exceeded|insufficient|too_low|required)
    | (^|_)(no|out_of)_(credits?|balance|funds)(_|$)
    | (spend|spending|usage|cost|billing_hard|billing_soft)_limit | (hard|monthly)_limit_(reached|exceeded)
    | (^|_)billing(_|$) | payment_(required|overdue|failed|method) | arrear | overdue
    | (?<!thinking)(?<!token)(?<!reasoning)(^|_)budget_(limit_)?(exceeded|exhausted|reached) | exceeded_budget
    | (account|organi[sz]ation|org|project|team|workspace|user|customer|subscription|key)_
      (is_)?(not_active|inactive|deactivated|disabled|suspended|restricted|blocked|frozen|locked|closed|archived|banned
      |expired|cancell?ed|terminated|not_found|overdue|revoked)
    | (not|in)_?active_(account|organi[sz]ation|subscription)
    | unsupported_(country|region|territory|location)
    | (country|region|location)_(is_)?not_(supported|available|allowed)
    | missing_scopes? | invalid_(api_)?key | api_key_(invalid|expired|revoked|disabled|not_found)
    | (incorrect|expired|revoked|missing)_api_key | ^unauthori[sz]ed$ | ^unauthenticated$ | authentication
    | (invalid|mismatched|no_such)_(organi[sz]ation|project) | ip_not_(authorized|allowed)
    """,
    re.VERBOSE,
)
_STRONG = r"""
      insufficient[ ](account[ ])?(quota|balance|credits?|funds) | (requires|need)[ ]more[ ]credits
    | more[ ]credits[ ]are[ ]required | credit[ ]limit[ ](exceeded|reached)
    | (credit[ ])?(credits?|balance)[ ](is[ ]|are[ ]|has[ ]been[ ]|have[ ]been[ ])?
      (too[ ]low|depleted|exhausted|used[ ]up|not[ ]enough)
    | (out[ ]of|used[ ]all[ ](the[ ]|your[ ])?available|no[ ]remaining)[ ]credits?
    | (doesn't|does[ ]not|don't)[ ]have[ ]any[ ]credits?
    | exceeded[ ]your[ ]monthly[ ](included[ ])?credits | (user|token|key|account)[ ]quota[ ]is[ ]not[ ]enough
    | budget[ ]has[ ]been[ ]exceeded | exceededbudget | (exceeded|crossed|over)[ ]budget
    | (reached|exceeded)[ ](its|your|the)[ ]([\w-]+[ ]){0,3}(spend|spending|usage|billing|cost)[ ]limits?
    | billing[ ]hard[ ]limit | hard[ ]limit[ ]has[ ]been[ ]reached
    | (account|organi[sz]ation|project|team|subscription|api[ ]key)[ ]([^ ]+[ ]){0,4}
      (is|has[ ]been|was)[ ](not[ ]active|inactive|deactivated|disabled|suspended|restricted|blocked|expired|overdue
      |in[ ]arrears|archived|revoked|terminated)
    | (access[ ]denied,[ ]please[ ]make[ ]sure[ ]your[ ])?account[ ]is[ ]in[ ]good[ ]standing
    | overdue[ ](payment|balance|bill) | payment[ ]required | missing[ ]scopes?
    | (country,[ ]region,[ ]or[ ]|user[ ])?(country|region|territory|location)[ ](is[ ])?not[ ]supported
    | (invalid|incorrect)[ ]api[ ]key | api[ ]key[ ](is[ ])?(not[ ]valid|invalid|expired|missing)
    | 余额不足 | 欠费 | 额度不足 | 额度已用尽
"""
_SAID_OF_ACCOUNT = re.compile(_STRONG, re.VERBOSE)
_QUOTA = re.compile(r"exceeded (its|your|the) (current |monthly )?quota|out of call volume quota")
"""OpenAI says this of an empty account, Gemini of calls per minute."""
_OF_PACE = re.compile(
    r"per[ -](second|minute|hour|day)|rate limit|\b([tri]pm|[tri]pd)\b|(try again|retry|please wait) (in|after|\d)"
)
_LEAD = re.compile(
    r"(?:(?:[\w.]*(?:error|exception)|http \d{3}|error code|\d{3})\s*[:-]\s*)*"
    r"(?:you have |you've |you |your |the |this )?"
)
"""Words that may stand before the provider's own sentence: ``Your``, or error names that routers add, such as
``litellm.BadRequestError: OpenAIException - ``."""
_QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"")
_PLAIN_STATUSES = frozenset({403, 412, 429})
"""Statuses whose messages do not quote the request or its model."""
_READ, _SENTENCE = 2_000, 300
"""Characters of a message that are read, and characters of the squeezed text that are searched. A provider's own
sentence comes first, and quotes after it."""

_OF_ITEM_WORDS = re.compile(
    r"(^|_)(models?|deployment|engine|content|policy_violation|moderation|prompt|safety|flagged|parameter|value"
    r"|context_length|previous_response|image|audio)(_|$)|string_above"
)
_OF_ITEM_SAID = re.compile(
    r"\b(models?|deployment|engine|(content|usage|safety|moderation) polic(y|ies)|content (management|filter)"
    r"|moderation|flagged|prompt|with id|file-\w+|no such file|vector store|conversation|no endpoints found)\b"
)
_NO_ACCESS_TO_MODEL = re.compile(
    r"(not allowed to|does not have|doesn't have|do not have|don't have|no) access (to )?"
    r"(the )?(requested )?(model|engine)"
)
_TOO_LARGE = re.compile(r"request too large|(input|output) (or output )?tokens must be reduced")
_LIMIT = re.compile(r"\blimit:?\s*(\d[\d,]*)")
_REQUESTED = re.compile(r"\brequested:?\s*(\d[\d,]*)")

_BATCH_FIELDS = frozenset(
    {"file", "file_id", "input_file", "input_file_id", "purpose", "endpoint", "completion_window", "metadata"}
    | {"output_expires_after", "expires_after"}
)
_BATCH_WORDS = re.compile(r"(^|_)(file|endpoint|window|metadata)(_|$)")
_BATCH_SAID = re.compile(
    r"(cannot|could not|can't|unable to) find (the )?(input )?file|no such file|file .{0,80}not found"
)
_NO_SUCH_DOOR = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
_KEY_STATUSES = frozenset({401, 402, 403, 407})


def fault_of_request(error: ProviderError) -> Fault:
    """Judge the refusal of a call, or of a line of a result file."""
    status = error.status or 0
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and _denies_the_model(error):
        return Fault.ITEM
    if of_account(error):
        return Fault.ACCOUNT
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Fault.NOW if "slow_down" in words(error) else Fault.PROVIDER
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or _never_passes(error):
        return Fault.ITEM
    if status in _NOW_STATUSES or any(_NOW_WORDS.search(word) for word in words(error)):
        return Fault.NOW
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
    if any(_PROVIDER_WORDS.search(word) for word in words(error)):
        return Fault.PROVIDER
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Fault.ITEM
    if _names_batch(error) or status in _NO_SUCH_DOOR:
        return Fault.BATCH
    if status is None:
        return Fault.ITEM if words(error) else Fault.PROVIDER
    return Fault.ITEM if names_item(error) else Fault.UNNAMED


def of_account(error: ProviderError) -> bool:
    """Is the account at fault: its credit, a spending limit, its key, its country, a scope?"""
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED):
        return True
    if any(_ACCOUNT_WORDS.search(word) for word in words(error)):
        return True
    said = _QUOTED.sub("", _said(error))
    if error.status in _PLAIN_STATUSES and not error.param:
        sayings = [found.re for each in (_SAID_OF_ACCOUNT, _QUOTA) if (found := each.search(said))]
    else:
        # A server that may quote the request: only the first words are surely its own.
        own = said[lead.end() :] if (lead := _LEAD.match(said)) else said
        sayings = [found.re for each in (_SAID_OF_ACCOUNT, _QUOTA) if (found := each.match(own))]
    paced = _OF_PACE.search(said) is not None or any(_NOW_WORDS.search(word) for word in words(error))
    return _SAID_OF_ACCOUNT in sayings or (_QUOTA in sayings and not paced)


def only_forbidden(error: ProviderError) -> bool:
    """Is this a 403 that does not speak of money or of the whole account? The key may be barred from batches alone."""
    whole = re.compile(r"quota|credit|balance|billing|budget|limit|payment|country|region|account|organi[sz]ation")
    return error.status == HTTPStatus.FORBIDDEN and not any(whole.search(word) for word in words(error))


def no_capacity(error: ProviderError) -> bool:
    """Does the lane that was asked for have no capacity?"""
    return error.status == _CAPACITY_EXCEEDED or not _NO_CAPACITY.isdisjoint(words(error))


def names_item(error: ProviderError) -> bool:
    """Does the refusal speak of the request: a field, its model, its content?"""
    if error.param or any(_OF_ITEM_WORDS.search(word) for word in words(error)):
        return True
    return not error.page and _OF_ITEM_SAID.search(_said(error)) is not None


def names_model(error: ProviderError) -> bool:
    """Does the refusal say that the model is unknown?"""
    return any(re.search(r"(model|deployment)_not_found", word) for word in words(error))


def _denies_the_model(error: ProviderError) -> bool:
    """Is the key barred from this model? It may use others."""
    return any("model_access_denied" in word for word in words(error)) or (
        _NO_ACCESS_TO_MODEL.search(_said(error)) is not None
    )


def _never_passes(error: ProviderError) -> bool:
    """Does the request ask for more tokens than the limit of a whole minute? Waiting does not make it smaller."""
    said = _said(error)
    if _TOO_LARGE.search(said):
        return True
    limit, requested = _LIMIT.search(said), _REQUESTED.search(said)
    return limit is not None and requested is not None and _count(requested) > _count(limit)


def _count(found: re.Match[str]) -> int:
    return int(found.group(1).replace(",", "")[:18])


def _names_batch(error: ProviderError) -> bool:
    steps = (error.param or "").lower().replace("[", ".").split(".")
    # In the errors of a failed batch ``body`` is the body of a line.
    of_a_line = error.status is None and steps[0] == "body"
    if not of_a_line and not _BATCH_FIELDS.isdisjoint(steps):
        return True
    return any(_BATCH_WORDS.search(word) for word in words(error)) or _BATCH_SAID.search(_said(error)) is not None


def _said(error: ProviderError) -> str:
    return " ".join((error.message or "").lower()[:_READ].split())[:_SENTENCE]
