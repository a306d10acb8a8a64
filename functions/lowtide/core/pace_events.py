"""What is told about calls, what is asked before them, and what a pace row says to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, auto

from .outcomes import Headroom
from .pace_rows import PaceRow


class Sign(StrEnum):
    """What the end of a call says about the provider, whatever it says about the task."""

    ANSWERED = auto()
    """It is there: an answer, or a refusal of this very request."""
    LIMITED = auto()
    """Too fast: 429, ``slow_down``."""
    NO_CAPACITY = auto()
    """Flex refused quickly; says nothing of the other lanes."""
    STALLED = auto()
    """A flex call took all its time and brought nothing."""
    DOWN = auto()
    """502, 503, 504, no connection: the provider speaks of itself, so one witness is enough."""
    FAILED = auto()
    """500, a timeout, an answer that is none: the provider's fault, or this one item's."""
    REFUSED = auto()
    """The account is refused."""
    DOUBTED = auto()
    """A refusal that does not name its request, such as a bare 403 or 404. Request, account or address may be at
    fault."""
    CLEARED = auto()
    """Such a refusal turned out to be the request's own fault."""
    PRESENT = auto()
    """The provider answered ``GET /models``, which buys nothing."""
    ABSENT = auto()
    """The provider did not answer ``GET /models``."""
    UNUSED = auto()
    """Admitted, and not called after all."""


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call ended whose moment was granted at ``granted_at``; answers may be told together, as the latest of
    ``count``. What was granted before a row heard of trouble knows no more of it than the row does.

    ``call`` names the permit, ``witness`` the task; ``retry_after_s``: as the provider asked. ``seconds``: from
    their moments to their ends, of calls that flex or default could serve. ``unseen``: the call was
    made although the provider did not answer ``GET /models``. ``began_at``: its moment, and where several calls of a
    process have the same one, a little later for each.
    """

    sign: Sign
    granted_at: datetime
    call: str
    witness: str = ""
    retry_after_s: float | None = None
    headroom: Headroom | None = None
    flex: bool = False
    count: int = 1
    seconds: tuple[float, ...] = ()
    unseen: bool = False
    began_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """So many calls began whose moments were granted at ``granted_at``."""

    granted_at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a deployment allows itself a minute; None: whatever the provider lets through."""

    requests: float | None = None
    tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Take:
    """Asks for a moment for each of some calls, whose estimated tokens ``tokens`` has, none further ahead than
    ``horizon_s``. ``told`` is what calls have come to since the asker last told, and ``begun`` which calls began.
    ``call`` names the probe, should it be one, and ``probe_s`` how long nobody else may probe then. ``flex``: on that
    lane. ``urgent``: ahead of what has been granted to others."""

    key: str
    call: str
    tokens: tuple[int, ...]
    horizon_s: float
    probe_s: float
    ceiling: Ceiling = Ceiling()
    told: tuple[CallEnd, ...] = ()
    begun: tuple[Begun, ...] = ()
    flex: bool = False
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    """What calls have come to, and nothing asked."""

    key: str
    told: tuple[CallEnd, ...]
    ceiling: Ceiling = Ceiling()
    begun: tuple[Begun, ...] = ()


PaceEvent = Take | Tell


class PaceVerdict(StrEnum):
    APPLIED = "applied"
    """At least one moment is granted, or what was told is news."""
    REPEATED = "repeated"
    """What was told is known, or came too late to matter."""
    LATER = "later"
    """No moment is granted."""


class Held(StrEnum):
    """Why a call has to wait."""

    RATE = "rate"
    FLEX = "flex"
    BREAKER = "breaker"


@dataclass(frozen=True, slots=True)
class PaceDecision:
    """``moments``: when the first so many of the calls may begin. ``later``: when to ask for the others. ``probe``: the
    one call granted is a probe. ``granted_at``: the moment of the grant, after the last change of the rate, be it by a
    millisecond."""

    verdict: PaceVerdict
    row: PaceRow | None
    changed: bool = False
    moments: tuple[datetime, ...] = ()
    granted_at: datetime | None = None
    later: datetime | None = None
    held: Held | None = None
    probe: bool = False
