"""Where a batch is, as a function of the moment: nothing has to tick."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lowtide.core.batches import ProviderStatus

_VALIDATED = 0.1
"""Of the duration: after it the first line is run."""
_RUN = 0.9
"""Of the duration: after it the files are written."""


@dataclass(frozen=True, slots=True)
class Phase:
    """``fraction`` of the lines are finished."""

    status: ProviderStatus
    since: datetime
    fraction: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """``expires_fraction``: ends ``expired`` at its duration, with that much done."""

    created_at: datetime
    duration_s: float
    window_s: float
    cancel_s: float
    invalid: bool = False
    never_ends: bool = False
    expires_fraction: float | None = None
    cancelled_at: datetime | None = None

    def moment(self, share: float) -> datetime:
        """When ``share`` of the duration has passed."""
        return self.created_at + timedelta(seconds=self.duration_s * share)

    def finished_at(self, share: float) -> datetime:
        """When ``share`` of the lines were finished."""
        return self.moment(_VALIDATED + (_RUN - _VALIDATED) * share)

    def at(self, now: datetime) -> Phase:
        cancelled = self.cancelled_at
        if cancelled is not None and now >= cancelled:
            done = self._undisturbed(cancelled).fraction
            ended = cancelled + timedelta(seconds=self.cancel_s)
            if now < ended:
                return Phase(ProviderStatus.CANCELLING, cancelled, done)
            return Phase(ProviderStatus.CANCELLED, ended, done)
        return self._undisturbed(now)

    def _undisturbed(self, now: datetime) -> Phase:
        validated = self.moment(_VALIDATED)
        if now < validated:
            return Phase(ProviderStatus.VALIDATING, self.created_at, 0.0)
        if self.invalid:
            return Phase(ProviderStatus.FAILED, validated, 0.0)
        expires = self.created_at + timedelta(seconds=self.window_s)
        if self.never_ends:
            return Phase(ProviderStatus.IN_PROGRESS, validated, min(self._progress(now), 0.5))
        if now >= expires and self.duration_s > self.window_s:
            return Phase(ProviderStatus.EXPIRED, expires, self._progress(expires))
        if now >= self.moment(1.0):
            if self.expires_fraction is not None:
                return Phase(ProviderStatus.EXPIRED, self.moment(1.0), self.expires_fraction)
            return Phase(ProviderStatus.COMPLETED, self.moment(1.0), 1.0)
        if now >= self.moment(_RUN) and self.expires_fraction is None:
            return Phase(ProviderStatus.FINALIZING, self.moment(_RUN), 1.0)
        return Phase(ProviderStatus.IN_PROGRESS, validated, self._progress(now))

    def _progress(self, now: datetime) -> float:
        start, end = self.moment(_VALIDATED), self.moment(_RUN)
        share = 1.0 if end <= start else min(1.0, max(0.0, (now - start) / (end - start)))
        return share if self.expires_fraction is None else share * self.expires_fraction
