"""A hold: LOW work that goes no further than its parts until an operator says so.

::

    (none) ──Place──▶ held ──Lift──▶ lifted
                       ▲               │
                       └──── Place ────┘

A hold marks nothing: whether a part is held follows from the holds in force and from the part itself. So a part that
was drained under a hold is released by the one write that lifts it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from .model import Stored, Utc
from .parts import PartRow


class Scope(Stored):
    """What is held: a tenant's tasks, a model's, those of a tenant on a model, or with neither all LOW."""

    tenant: str | None = None
    model: str | None = None

    @property
    def text(self) -> str:
        """``all LOW``, ``tenant acme``, ``model gpt-6-luna``, ``tenant acme, model gpt-6-luna``."""
        named = (("tenant", self.tenant), ("model", self.model))
        return ", ".join(f"{kind} {name}" for kind, name in named if name is not None) or "all LOW"


class HoldState(StrEnum):
    HELD = "held"
    LIFTED = "lifted"


class HoldRow(Stored):
    rev: int = 0
    scope: Scope
    reason: str
    state: HoldState = HoldState.HELD
    placed_at: Utc
    lifted_at: Utc | None = None

    @property
    def key(self) -> str:
        return self.scope.text

    @property
    def active(self) -> bool:
        return self.state is HoldState.HELD


@dataclass(frozen=True, slots=True)
class Place:
    scope: Scope
    reason: str


@dataclass(frozen=True, slots=True)
class Lift:
    pass


HoldEvent = Place | Lift


class HoldVerdict(StrEnum):
    APPLIED = "applied"
    REPEATED = "repeated"
    """It is held, or lifted, already: with the reason and since the moment that the row says."""
    STALE = "stale"
    """Nothing was ever held there."""


@dataclass(frozen=True, slots=True)
class HoldDecision:
    verdict: HoldVerdict
    row: HoldRow | None
    changed: bool = False


def transition(row: HoldRow | None, event: HoldEvent, now: datetime) -> HoldDecision:
    """What ``event`` does to ``row`` at ``now``. Total: every state takes every event."""
    match event:
        case Place(scope, reason):
            if row is not None and row.active:
                return HoldDecision(HoldVerdict.REPEATED, row)
            placed = HoldRow(rev=0 if row is None else row.rev, scope=scope, reason=reason, placed_at=now)
            return HoldDecision(HoldVerdict.APPLIED, placed, changed=True)
        case Lift():
            if row is None:
                return HoldDecision(HoldVerdict.STALE, None)
            if not row.active:
                return HoldDecision(HoldVerdict.REPEATED, row)
            lifted = row.model_copy(update={"state": HoldState.LIFTED, "lifted_at": now})
            return HoldDecision(HoldVerdict.APPLIED, lifted, changed=True)
        case _:
            assert_never(event)


@dataclass(frozen=True, slots=True)
class InForce:
    """The scopes that are held at a moment."""

    scopes: frozenset[Scope]

    @classmethod
    def of(cls, rows: Iterable[HoldRow]) -> InForce:
        return cls(frozenset(row.scope for row in rows if row.active))

    def holds(self, part: PartRow) -> bool:
        """Must sealing pass it over. A part of many tenants' tasks is held only by what holds them all."""
        return self._any(None, part.lot.model) or (part.tenant is not None and self._any(part.tenant, part.lot.model))

    def over(self, model: str) -> tuple[Scope, ...]:
        """Those that cover tasks on this model, whoever's; in an order of their own."""
        covering = [scope for scope in self.scopes if scope.model in (None, model)]
        return tuple(sorted(covering, key=lambda scope: scope.text))

    def stops(self, tenant: str, model: str) -> bool:
        """Is a task of this tenant's on this model held, whatever it stands beside?"""
        return self._any(None, model) or self._any(tenant, model)

    def apart(self, tenant: str, model: str) -> bool:
        """Does a hold single this tenant's tasks out, so that their parts must be theirs alone."""
        return self._any(tenant, model)

    def _any(self, tenant: str | None, model: str) -> bool:
        """Looked up, and not gone through: asked for every line of a batch, under thousands of holds."""
        return any(Scope(tenant=tenant, model=name) in self.scopes for name in (None, model))
