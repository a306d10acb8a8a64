"""Ports that raise: throttled, partly done, or done with an error in place of the reply; for one call, or for minutes.

What is raised is what the real adapters let through (docs/architecture.md names them): boto3's own errors from the
table and the bucket, lowtide's from what is sent, and the provider's refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any, NoReturn

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from lowtide.core.errors import Contended, KeyUnreadable, LowtideError, ProviderRefused, Unfinished, Unreachable


class How(Enum):
    """What had become of the call when it raised."""

    BEFORE = "before"
    """Nothing: it was refused."""
    AFTER = "after"
    """All that it was asked to do."""
    PARTLY = "partly"
    """Some of the items that it was given, where it was given several; otherwise all."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Begins at call ``at``, numbered over all actors, and befalls the service that this call is for: at least
    ``calls`` calls of it, and every one for ``seconds``. ``how`` None: drawn for each."""

    at: int
    how: How | None = None
    calls: int = 1
    seconds: float = 0.0


def _all_of_them(items: Sequence[Any]) -> Sequence[Any]:
    return items


@dataclass(frozen=True, slots=True)
class Raise:
    """One call that raises ``error``. ``spared``: of several items those that take effect, where only some do."""

    how: How
    error: Exception
    spared: Callable[[Sequence[Any]], Sequence[Any]] = _all_of_them

    def instead_of(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> NoReturn:
        """Makes the call, as far as it takes effect, and raises what the real adapter would."""
        if self.how is How.BEFORE:
            raise self.error
        asked: Sequence[Any] = args[0] if self.how is How.PARTLY else ()
        spared = self.spared(asked)
        result = method(*(spared, *args[1:]) if self.how is How.PARTLY else args, **kwargs)
        if name.endswith(".apply") and 0 < len(spared) < len(asked):
            decisions = dict(zip(map(id, spared), result, strict=True))
            raise Unfinished([decisions.get(id(each), self.error) for each in asked])
        raise self.error

    def failed(self, items: Sequence[Any]) -> Sequence[Any]:
        """The items that the caller has to take for undone."""
        spared = self.spared(items) if self.how is How.PARTLY else ()
        return (
            items if len(spared) == len(items) else [each for each in items if not any(each is one for one in spared)]
        )


class Troubles:
    """Those of one play, by the numbers of its calls and its time."""

    def __init__(self, troubles: Sequence[Trouble], dice: Random, elapsed_s: Callable[[], float]) -> None:
        self._coming = {trouble.at: trouble for trouble in troubles}
        self._dice = dice
        self._elapsed_s = elapsed_s
        self._present: dict[str, _Present] = {}
        self.raised = 0

    def at(self, number: int, name: str) -> Raise | None:
        begun = self._coming.get(number)
        if begun is None and not self._present:
            return None
        service = service_of(name)
        if begun is not None and service is not None:
            self._present[service] = _Present(begun, begun.calls, self._elapsed_s() + begun.seconds)
        present = self._present.get(service or "")
        if service is None or present is None or not present.lasts(self._elapsed_s()):
            return None
        present.calls -= 1
        self.raised += 1
        return trouble_of(name, present.trouble.how, self._dice)


@dataclass
class _Present:
    trouble: Trouble
    calls: int
    until_s: float

    def lasts(self, elapsed_s: float) -> bool:
        return self.calls > 0 or elapsed_s < self.until_s


def trouble_of(name: str, how: How | None, dice: Random) -> Raise | None:
    """A way in which this call may raise; None where it may not."""
    service = service_of(name)
    if service is None:
        return None
    how = _possible(name, how or dice.choice(list(How)))
    error, seed = dice.choice(errors_of(service, name, how))(), dice.random()
    return Raise(how, error, lambda items: some(items, Random(seed)))


READS = frozenset({"get", "lines", "open", "keys", "active", "depth", "look", "find", "results", "owned", "supported"})
"""What changes nothing: whether it raises before or after is the same."""

LISTS = frozenset({"send", "delete", "defer", "apply", "put"})
"""What is given several items, each of which takes effect on its own."""

_SERVICES: Mapping[str, str] = {
    **dict.fromkeys(("tasks", "parts", "batches", "paces", "holds", "ledger"), "table"),
    **dict.fromkeys(("intake", "critical", "high", "normal", "low", "dead_letters", "stranded"), "queues"),
    **{name: name for name in ("objects", "events", "callbacks", "replies", "levels")},
    "batch_apis": "provider",
}


def service_of(name: str) -> str | None:
    """None: this call raises nothing. Answers of a model are values, and marks of a queue's age are dropped."""
    return None if name == "levels.mark" else _SERVICES.get(name.partition(".")[0])


def raises(name: str) -> Sequence[How]:
    """The ways in which this call may raise, none of them the same as another."""
    if service_of(name) is None:
        return ()
    return tuple(how for how in How if _possible(name, how) is how)


def some(items: Sequence[Any], dice: Random) -> Sequence[Any]:
    """At least one of several items and not all of them, in their order. Items of one key stay together."""
    keys = list(dict.fromkeys(_key(item) for item in items))
    if len(keys) < 2:
        return items
    chosen = set(dice.sample(keys, dice.randint(1, len(keys) - 1)))
    return [item for item in items if _key(item) in chosen]


def _key(item: Any) -> object:
    return getattr(item, "key", None) if hasattr(item, "event") else id(item)


def _possible(name: str, how: How) -> How:
    method = name.rpartition(".")[2]
    if method in READS:
        return How.BEFORE
    several = method in LISTS and service_of(name) not in ("objects", "provider")
    return how if how is not How.PARTLY or several else How.AFTER


Make = Callable[[], Exception]


def errors_of(service: str, name: str, how: How) -> Sequence[Make]:
    """What the real adapter raises where this call fails in this way."""
    match service:
        case "table" if how is How.BEFORE and name.endswith(".apply"):
            return (throttled, _unconnected, lambda: Contended("a row would not hold still; come back later"))
        case "table" | "objects":
            return (throttled, _unconnected) if how is How.BEFORE else (throttled, _cut_off)
        case "queues" if name.endswith((".receive", ".depth")):
            return (throttled, _unconnected) if how is How.BEFORE else (_cut_off,)
        case "queues":
            return (_busy, throttled)
        case "provider" if how is How.BEFORE:
            return (
                lambda: Unreachable("connection refused"),
                lambda: KeyUnreadable("the secret has no key for it"),
                lambda: ProviderRefused(429, "rate_limit_exceeded", "too many requests", retry_after_s=20.0),
                lambda: ProviderRefused(503, "overloaded", "come back later"),
            )
        case "provider":
            return (lambda: Unreachable("connection reset"), lambda: ProviderRefused(504, None, "gateway timeout"))
        case _:
            return (_busy,)


def throttled() -> Exception:
    """What boto3 raises where a service is asked too often."""
    told = {"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}
    return ClientError(told, "AnyOperation")


def _unconnected() -> Exception:
    return EndpointConnectionError(endpoint_url="https://service.eu-west-1.amazonaws.com")


def _cut_off() -> Exception:
    return ReadTimeoutError(endpoint_url="https://service.eu-west-1.amazonaws.com")


def _busy() -> Exception:
    return LowtideError("some entries were not taken; send again")
