"""``lowtide pause`` and ``lowtide resume``."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from lowtide.core.holds import HoldDecision, HoldEvent, HoldVerdict, InForce, Lift, Place, Scope
from lowtide.core.model import utc_text
from lowtide.core.parts import PartState
from lowtide.ports import Change
from lowtide_local.operate.desk import Desk, opened

from .showing import console, print_json
from .stop import ExitCode, Stop, usage


def pause_command(
    where: tuple[str | None, str | None],
    tenant: str | None,
    model: str | None,
    reason: str,
    *,
    every: bool,
    as_json: bool,
) -> ExitCode:
    """Given again it changes nothing, and says since when."""
    scope = _scope(tenant, model, every=every)
    with opened(*where) as desk:
        decision = _apply(desk, scope, Place(scope, reason))
        waiting = _waiting(desk, scope)
    row = decision.row
    if row is None:
        raise AssertionError("a hold that was placed has a row")
    already = decision.verdict is HoldVerdict.REPEATED
    if as_json:
        print_json(
            _document(scope, waiting, already=already) | {"reason": row.reason, "since": utc_text(row.placed_at)}
        )
    else:
        console().print(
            f"{escape(scope.text)} {'was paused before' if already else 'is paused'} ({escape(row.reason)}): "
            f"{waiting} tasks wait in parts, and what comes will; batches that are begun go on",
            soft_wrap=True,
        )
    return ExitCode.DONE


def resume_command(
    where: tuple[str | None, str | None], tenant: str | None, model: str | None, *, every: bool, as_json: bool
) -> ExitCode:
    scope = _scope(tenant, model, every=every)
    with opened(*where) as desk:
        waiting = _waiting(desk, scope)
        decision = _apply(desk, scope, Lift())
        others = [row.scope.text for row in desk.system.holds.active() if row.scope != scope]
    if decision.verdict is not HoldVerdict.APPLIED:
        rest = f"; paused are: {'; '.join(others)}" if others else ""
        raise Stop(f"{scope.text} is not paused{rest}")
    if as_json:
        print_json(_document(scope, waiting, already=False) | {"still_paused": others})
        return ExitCode.DONE
    console().print(f"{escape(scope.text)} goes on: {waiting} tasks waited in parts", soft_wrap=True)
    if others:
        console().print(f"still paused: {escape('; '.join(others))}", soft_wrap=True)
    return ExitCode.DONE


def _scope(tenant: str | None, model: str | None, *, every: bool) -> Scope:
    if every == (tenant is not None or model is not None):
        raise usage("what? give --tenant or --model or both, or --all for all LOW tasks")
    return Scope(tenant=tenant, model=model)


def _apply(desk: Desk, scope: Scope, event: HoldEvent) -> HoldDecision:
    [decision] = desk.system.holds.apply([Change(scope.text, event)], desk.system.clock.now())
    return decision


def _waiting(desk: Desk, scope: Scope) -> int:
    """Tasks in parts that this scope alone would hold."""
    alone = InForce(frozenset({scope}))
    parts = desk.system.parts.active()
    return sum(part.tasks for part in parts if part.state is not PartState.JOINED and alone.holds(part))


def _document(scope: Scope, waiting: int, *, already: bool) -> dict[str, Any]:
    return {"scope": scope.text, "tasks_waiting": waiting, "already": already}
