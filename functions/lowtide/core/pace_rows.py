"""What all running functions share about one model of a provider: how fast it may be called, and whether at all."""

from __future__ import annotations

from enum import StrEnum

from .lane_past import LanePast
from .model import Stored, Utc


class Breaker(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    """Nobody calls before ``retry_at``."""
    HALF_OPEN = "half_open"
    """One call is out to see; its answer closes the breaker, its failure opens it again."""


class Trial(Stored):
    """A cut that is taken back if as large a share is refused as before. ``share``: of 429s, among so many ``calls``
    before the cut; ``rate``: what was allowed a minute; ``met``: the rate at which the first 429s came, which may be
    far below; ``guessed``: no limit had been met before."""

    share: float
    calls: int
    rate: float
    met: float = 0.0
    guessed: bool


class PaceRow(Stored):
    """A model's (``<provider> <model>``), or one that only has a breaker: a provider's account's (``<provider>``), or
    that of the batches of a model and endpoint (``<provider> <model> <endpoint>``).

    Rates are calls a minute. ``level`` is how many calls may be made at once at ``levelled_at``; below zero, as many
    have been granted ahead of time. ``token_level`` is the same in tokens. ``recent`` is the sum of granted calls,
    each of which fades with its age.
    """

    rev: int = 0
    key: str
    born_at: Utc
    level: float = 0.0
    token_level: float = 0.0
    express: float = 0.0
    """Urgent calls that may begin at once although the bucket is drawn on."""
    levelled_at: Utc
    recent: float = 0.0
    recent_since: Utc
    """Since when calls have been counted into ``recent`` without a long rest."""
    requests_limit: float | None = None
    tokens_limit: float | None = None
    """A minute's, as the provider last told it."""
    start: float | None = None
    """A rate that is a guess, at ``started_at``, since when it doubles every ``doubling_s``."""
    started_at: Utc | None = None
    doubling_s: float = 1.0
    peak: float | None = None
    """The rate that turned out to be too high, at ``cut_at``."""
    cut_at: Utc | None = None
    trial: Trial | None = None
    before_cuts: float | None = None
    """The peak before the last cuts that followed each other closely."""
    counted_since: Utc | None = None
    begun: int = 0
    refused: int = 0
    passed: int = 0
    """Calls granted since ``counted_since`` that began, those of them that got a 429, and those that were answered. The
    others have not ended yet, or came to something else."""
    refused_run: int = 0
    """429s in a row with no other reply between them."""
    stray: float = 0.0
    """Share of 429s that no rate explains, when it was tried last, at ``stray_at``."""
    stray_at: Utc | None = None
    pauses: int = 0
    """In a row, with no answer between them. The first began at ``stormed_at``."""
    stormed_at: Utc | None = None
    answered_at: Utc | None = None
    """When a call was granted, since ``stormed_at``, that was answered."""
    not_before: Utc | None = None
    resumed_at: Utc | None = None
    """When the last pause ends. From then on the rate doubles every second, back to what it was."""
    flex_refused: int = 0
    """In a row: since flex last answered."""
    flex_refused_at: Utc | None = None
    flex_not_before: Utc | None = None
    on_flex: LanePast = LanePast()
    on_default: LanePast = LanePast()
    """Of calls that either lane may serve."""
    state: Breaker = Breaker.CLOSED
    answers: int = 0
    """Since ``answers_since``; forgotten every few seconds."""
    answers_since: Utc
    failures: int = 0
    """In a row: since the last answer."""
    witnesses: tuple[str, ...] = ()
    """Digests of different tasks that failed since the last answer, as many as it takes to believe them. In the row of
    an account each begins with a digest of the refusal's words (core/doubts.py)."""
    present_since: Utc | None = None
    """Since when the provider answers ``GET /models`` while no call of this model is answered."""
    mute: bool = False
    """The provider answered a call at a time when it did not answer ``GET /models``. It is not asked again."""
    doubted_at: Utc | None = None
    """When a call of the account was last refused without naming its request. ``failures`` counts such refusals."""
    proven_at: Utc | None = None
    """When a call of the account was granted that was later answered. Written for the first answer, and in doubt."""
    opened_at: Utc | None = None
    closed_at: Utc | None = None
    """When a probe was answered last: a call that began before proves nothing any more."""
    retry_at: Utc | None = None
    opens: int = 0
    """How often it opened without an answer in between."""
    probe: str | None = None
    probe_until: Utc | None = None

    @property
    def of_account(self) -> bool:
        return account_of(self.key)

    @property
    def active(self) -> bool:
        """Is somebody kept waiting by the breaker."""
        return self.state is not Breaker.CLOSED

    @property
    def in_question(self) -> bool:
        """Must an answer be told to this account's row? Yes if it is the first one, or the account is refused or in
        doubt, or the row remembers refused tasks."""
        return self.proven_at is None or self.active or self.failures > 0 or bool(self.witnesses)


def model_key(provider: str, model: str) -> str:
    return f"{provider} {model}"


def batches_key(provider: str, model: str, endpoint: str) -> str:
    """Return the key of the row for the batches of one model and endpoint, which may be refused while calls go on."""
    return f"{provider} {model} {endpoint}"


def account_of(key: str) -> bool:
    """Is it an account's row?"""
    return " " not in key


def account_key(provider: str) -> str:
    """Never a model's: that has a space in it."""
    return provider
