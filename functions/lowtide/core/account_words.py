"""Words with which a provider refuses the account: its credit, a limit on spending, its key, its country, a scope.

Providers have many words for few things, so stems are searched, not single codes. Codes and types are read first: only
the provider writes them. Of a message, only the provider's own words are read (own_words.py).
"""

from __future__ import annotations

import re
from http import HTTPStatus

from .own_words import first_words, own_words, tells_a_pace
from .provider_errors import ProviderError, words


def _any(*each: str) -> re.Pattern[str]:
    return re.compile("|".join(each))


_MONEY = r"credits?|balance|wallet|prepaid|prepay|prepayment|funds|budget|deposit"
_WHO = (
    r"account|organi[sz]ation|org|project|team|tenant|workspace|user|customer|consumer|subscription|billing|plan"
    r"|membership|licen[cs]e|(?:(?:api|access|virtual|subscription)_?)?key"
)
_BARRED = (
    r"not_active|inactive|deactivated|disabled|suspended|suspension|restricted|blocked|frozen|locked|closed|archived"
    r"|banned|expired|cancell?ed|terminated|not_found|not_registered|deleted|overdue|past_due|revoked|flagged"
    r"|delinquent|unverified|not_verified|leaked|compromised|on_hold|paused|in_arrears|state_invalid"
)
_SPENT = (
    r"limit|cap|exhausted|depleted|exceeded|insufficient|too_low|required|empty|zero|negative|expired|reached|used_up"
    r"|not_enough|over|low|out|is_out"
)
_PLACE = r"countr(?:y|ies)|regions?|territor(?:y|ies)|locations?|jurisdictions?"
_SHUT_OUT = (
    r"not_supported|not_available|not_allowed|unsupported|unavailable|restricted|blocked|forbidden|denied|banned"
)

_CODE = _any(
    r"insufficient_(\w+_)?(quota|balance|credits?|funds|scopes?|permissions?)|quota_(is_)?not_enough",
    r"(exceeded|pre_consume)_(current_|token_)?quota",
    rf"(^|_)({_MONEY})_(\w+_)?({_SPENT})(_|$)",
    rf"(^|_)(no|out_of|low|negative|zero|over|exceeded|add|need)_((more|account|user|credit|current)_)?({_MONEY})(_|$)",
    r"(^|_)(plan|subscription|account)_upgrade_(required|needed)|upgrade_(your_)?(plan|subscription|account)",
    r"(spend|spending|usage|cost|monthly|hard|soft|billing)_((?!rate)\w+_)?(limit|cap|allowance)(_|$)",
    r"max(imum)?_(spend|usage)|(^|_)(billing|arrears?|arrearage|overdue|past_due|unpaid|delinquent)(_|$)",
    r"(^|_)(payments?|invoices?)_(\w+_)?(required|overdue|failed|due|method|declined|missing|pending|unpaid|past)",
    r"(^|_)(no|missing|invalid|failed|pending|late)_(payment|invoice)|(top_?up|recharge)_required",
    r"(^|_)card_(declined|expired|required|missing|blocked|failed|not_on_file)|(no|expired|declined)_(\w+_)?card$",
    rf"(^|_)({_WHO})_(is_|was_|has_been_)?({_BARRED})(_|$)",
    rf"(^|_)({_BARRED})_((billing|user|api)_)?({_WHO}|api_access)(_|$)",
    r"(?<!model_)access_(is_|was_)?(terminated|revoked|suspended|blocked|banned|disabled)|gcp_suspended",
    r"(^|_)(not|in)_?active_(account|organi[sz]ation|subscription)|(^|_)subscription_(required|missing|needed)",
    r"(identity|customer|account|user|phone|organi[sz]ation|business)_verification_(required|needed|pending)",
    r"(^|_)kyc(_|$)|^(terms|tos|eula|agreement)_(\w+_)?(not_accepted|required)|user_project_denied|org_restriction",
    rf"(unsupported|restricted|blocked|embargoed|sanctioned|forbidden|prohibited)_({_PLACE})",
    rf"({_PLACE})_(is_)?({_SHUT_OUT})|(^|_)geo(graphic\w*)?_?(restrict|block|fenc|locked)|(^|_)(sanction|embargo)",
    r"missing_scopes?|scopes?_(is_|are_)?(missing|required|insufficient|not_granted)|permissions?_(missing|required)$",
    r"(^|_)(invalid|incorrect|wrong|expired|revoked|missing|no|unknown)_(api_?|virtual_|access_|subscription_)key",
    r"api_?key_(is_)?(\w+_)?(invalid|missing|required|blocked|leaked)|credentials?_(missing|expired|invalid|revoked)",
    r"^unauthori[sz]ed$|^unauthenticated$|authentication|(^|_)(auth|access|security|bearer)_token_(expired|revoked)",
    r"(^|_)expired_(access_|security_)?token|(^|_)(consumer|account)_invalid",
    r"(invalid|mismatched|no_such)_(organi[sz]ation|project)",
    r"(^|_)ip_(address_)?(is_)?(not_(authorized|allowed)|blocked)",
    r"^(service|api)_(disabled|not_enabled)$|blocked_api_access",
)
_WEAK_CODE = _any(
    r"(^|_)quotas?(_|$)|(^|_)free_(tier|trial|plan|quota)|(^|_)usage_(exhausted|depleted|exceeded|used_up)(_|$)",
    r"^trial_|(^|_)trial_(\w+_)?(expired|ended|over|limit|exceeded)",
    r"(^|_)(plan|account|key|subscription|organi[sz]ation|team|project|workspace)_((?!token|enqueued)\w+_)?"
    r"(limit|cap)_?(reached|exceeded|hit)?$",
)
"""Codes that may also speak of a pace, such as a quota for every minute."""
_OF_PART = _any(
    r"(^|_)(thinking|tokens?|reasoning|context|prompt|completion|output|input|latency|time)_budget",
    r"(^|_)(pii|detected|guardrail|moderation|content|topic|prompt|safety|models?|deployment)(_|$)",
)
"""Codes that speak of the request, even if a word such as ``budget`` or ``region`` is in them."""
# LiteLLM gives the type throttling_error to every 429, also to that of an empty account.
_PACE_CODE = _any(
    r"rate_?limit|throttl(?!ing_error)|too_many|per_(second|minute|hour|day)|^resource_exhausted$|slow_down"
)

_GAP = (
    r"(?:[= ](?!(?:models?|content|prompts?|inputs?|images?|messages?|requests?|tools?|rates?|tokens?)\b)[^ =]+){0,5}?"
)
_OWNER = (
    r"(?:account|organi[sz]ation|project|team|tenant|workspace|customer|consumer|subscription|plan|membership"
    r"|(?:(?:api|access|virtual|subscription) )?key)(?:['’]s)?"
)
_STATE = (
    r"(?:not active|inactive|deactivated|disabled|suspended|restricted(?! to)|blocked|expired|overdue|past due"
    r"|in arrears|archived|revoked|terminated|frozen|locked|banned|closed|cancell?ed|flagged|delinquent|on hold|paused"
    r"|unverified|reported as leaked|leaked|compromised|not in good standing|lapsed|no longer (?:valid|active))"
)
_LIMITS = r"(?:limit|cap|allowance)s?"
_OF_MONEY = (
    r"(?:(?:monthly|daily|weekly|total|current|available|remaining|account|team|prepaid|included) ){0,2}"
    r"(?:credits?\b(?! (?:per|card)\b)|balance|wallet|funds|prepa(?:id|yment)|deposit"
    r"|(?<!thinking )(?<!token )(?<!tokens )(?<!reasoning )(?<!context )(?<!output )(?<!input )(?<!time )"
    r"budget(?! (?:tokens?|(?:for|of) (?:thinking|reasoning|tokens?))\b)"
    rf"|(?:spend|spending|billing|cost|credit|budget|monthly|hard) (?:hard |soft )?{_LIMITS})"
)
_OF_TRIAL = (
    r"(?:quotas?|trial(?: key| period)?|free (?:tier|trial|plan|credits|allocation|allowance|usage)"
    rf"|(?:usage|key|plan) (?:hard |soft )?{_LIMITS}|(?:maximum|max) (?:allowed |monthly )?usage)"
)
_GONE = (
    r"(?:exceeded|exhausted|depleted|reached|insufficient|too low|used up|used|not enough|empty|zero|negative|expired"
    r"|ended|over|overdue|past due|crossed|hit|run out|ran out|consumed|out of"
    r"|no (?:more|remaining|available|sufficient)|below|not sufficient)"
)
_PAYS = r"(?:billing|payment|card|subscription|prepayment|top-?up)"
_SAID = _any(
    rf"{_OWNER}{_GAP} (?:(?:is|are|was|has been|have been) (?:\w+ )?)?{_STATE}(?!\w)",
    rf"(?:{_OWNER}{_GAP} )?{_OF_MONEY}(?: \(?[^ .;:]+){{0,4}}? {_GONE}\b",
    rf"(?:{_OWNER}{_GAP} )?(?:is |has |have |was |either )*{_GONE} (?:[\w'-]+ ){{0,5}}?{_OF_MONEY}",
    rf"(?:{_OWNER}{_GAP} )?{_OF_MONEY} (?:do not|does not|don't|doesn't|cannot|can't|will not|won't) cover\b",
    r"(?:add|buy|purchase) (?:more |some |additional )?(?:credits|funds)\b",
    r"exceededbudget|(?:crossed|over) budget|(?:requires|need|needs) more credits|more credits are required",
    r"(?:doesn't|does not|don't|do not) have (?:any|enough|sufficient) (?:credits?|balance|funds)",
    r"no credits?(?: (?:left|remaining|available)|\W*$)|(?:user|token|key|account) quota is not enough",
    rf"(?:\w+ ){{0,4}}requires? (?:an? )?(?:\w+ ){{0,2}}{_PAYS}\b",
    rf"(?:credit )?{_PAYS}(?: \w+){{0,3}}? (?:required|overdue|failed|declined|expired|disabled|not enabled)",
    r"(?:no|missing) (?:valid |active |default )*(?:payment method|credit card|billing \w+)"
    r"(?: (?:on|found|attached|is|has|available|set|linked|registered|added)\b|\W*$|[.,!;])",
    r"(?:unpaid|overdue|outstanding) (?:payment|balance|bill|invoice|debt)s?|inactive subscription",
    r"(?:(?:last|latest|previous|current|most recent) )?invoices?(?: \w+){0,3}? (?:unpaid|overdue|past due|not paid|not"
    r" been paid)",
    r"(?:top up|recharge|refill) (?:your|the) (?:account|balance|wallet|credits?)",
    r"(?:access denied, please make sure your )?account is in good standing",
    r"access(?: to (?:the|this|our) \w+)? (?:was|has been|is) (?:terminated|revoked|suspended|banned)",
    r"(?:missing|lacks?|insufficient) (?:the )?(?:required )?(?:scopes?\b|data action)",
    r"(?:[^ ]+ ){0,4}lacks the required (?:data action|role|scope)",
    r"(?:invalid|incorrect|expired|revoked) api key|api key (?:is )?(?:not valid|invalid|expired|missing|revoked)",
    r"(?:security |access |api |auth |bearer )?token (?:included in the request )?(?:is |has |has been |was )?"
    r"(?:expired|revoked)\b",
    rf"(?:api )?access is (?:not enabled|not activated|disabled) (?:for|on) (?:your|this) {_OWNER}",
    rf"{_OWNER} must be verified (?:to|before) (?:use|using|access|accessing) (?:the|this|our) api\b",
    r"[\w ]{0,40}api has not been used in project|(?:identity|customer|phone) verification (?:is )?required",
    r"余额(?:不足|为零|已用[尽完])|欠费|额度(?:不足|已?用[尽完])|账[户号].{0,4}(?:冻结|封禁|停用)",
)
_WEAK_SAID = _any(
    rf"(?:{_OWNER}{_GAP} )?(?:[\w-]+ ){{0,2}}?{_OF_TRIAL}(?: (?!per\b)\w+){{0,5}}? (?:{_GONE}|limited)\b",
    rf"(?:{_OWNER}{_GAP} )?(?:is |has |have )*{_GONE} (?:[\w'-]+ ){{0,5}}?{_OF_TRIAL}",
    r"(?:add|provide|update|link|enter) (?:an? |your )?(?:\w+ )?(?:payment method|credit card|billing details)\b(?! to"
    r" your account)",
    r"(?:are )?using a trial key|upgrade (?:your|the) (?:plan|subscription|account)\b",
    r"(?:reached|exceeded|used up|exhausted) (?:your|the) (?:\w+ )?(?:included|monthly) usage\b",
)
"""Sentences that may also speak of a pace: OpenAI says some of an empty account, Gemini of calls per minute."""
_PLACES = rf"(?:{_PLACE})"
_COUNTRY_SAID = _any(
    rf"(?:country, region, or |user |your |this )?{_PLACES} (?:is |are )?(?:currently )?"
    r"(?:not (?:supported|available|allowed|permitted)|unsupported|restricted|blocked|embargoed|sanctioned)",
    r"(?:[\w.-]+ ){0,5}?(?:not|isn't) (?:yet |currently )?(?:available|supported|allowed|accessible|offered|permitted)"
    rf" (?:in|from|for|to) (?:your|this|the) (?:\w+ )?{_PLACES}",
    rf"(?:\w+ ){{0,5}}?(?:from|in) (?:an? |your )?(?:restricted|unsupported|sanctioned|blocked|embargoed) {_PLACES}",
)
_OF_CONTENT = re.compile(
    r"\b((content|usage|safety|moderation) (management )?polic(y|ies)|moderation|guardrails?|flagged|prompts?|violat\w+"
    r"|content (filter|blocked)|inappropriate|harmful|jailbreak)\b"
)
_PLAIN_STATUSES = frozenset({403, 412, 429})
"""Statuses whose messages seldom quote the request. They are searched whole, the others from their first word only."""


def names_account(error: ProviderError, *, told_to_wait: bool = False) -> bool:
    """Does the status, the code or the type refuse the account? ``told_to_wait``: a ``Retry-After`` came with it."""
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED):
        return True
    said = [word for word in words(error) if not _OF_PART.search(word)]
    if any(_CODE.search(word) for word in said):
        return True
    paced = told_to_wait or _of_pace(error)
    return not paced and any(_WEAK_CODE.search(word) for word in said)


def speaks_of_account(error: ProviderError, *, told_to_wait: bool = False) -> bool:
    """Does the provider's own sentence refuse the account?"""
    said = own_words(error)
    whole = error.status in _PLAIN_STATUSES
    if not whole:
        # A server that may quote the request: only the first words are surely its own.
        said = first_words(said)
    if _found(_SAID, said, whole=whole) or ("model" not in said and _found(_COUNTRY_SAID, said, whole=whole)):
        return True
    # A bill is never a matter of waiting, even if a server adds a wait to every 429.
    waits = _of_pace(error) or (told_to_wait and "billing" not in said)
    return not waits and _found(_WEAK_SAID, said, whole=whole)


def _found(pattern: re.Pattern[str], said: str, *, whole: bool) -> bool:
    if not whole:
        return pattern.match(said) is not None
    found = pattern.search(said)
    # A sentence on content goes on with what the content was.
    return found is not None and _OF_CONTENT.search(said[: found.start()]) is None


def _of_pace(error: ProviderError) -> bool:
    return tells_a_pace(error) or any(_PACE_CODE.search(word) for word in words(error))
