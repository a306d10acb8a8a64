from __future__ import annotations

from lowtide.core.holds import HoldVerdict, Lift, Place, Scope
from lowtide.ports import Change
from tests.contract.cases import LATER, NOW, SOON
from tests.contract.conftest import Store

ACME = Scope(tenant="acme")


def test_a_hold_is_in_force_from_its_placing_to_its_lifting(store: Store) -> None:
    assert store.holds.active() == []
    [placed] = store.holds.apply([Change(ACME.text, Place(ACME, "over budget"))], NOW)
    [listed] = store.holds.active()
    assert listed == placed.row
    assert (listed.scope, listed.reason, listed.placed_at) == (ACME, "over budget", NOW)
    [lifted] = store.holds.apply([Change(ACME.text, Lift())], SOON)
    assert lifted.row is not None
    assert lifted.row.lifted_at == SOON
    assert store.holds.active() == []


def test_a_hold_is_placed_once_and_keeps_its_first_reason(store: Store) -> None:
    store.holds.apply([Change(ACME.text, Place(ACME, "first"))], NOW)
    [again] = store.holds.apply([Change(ACME.text, Place(ACME, "second"))], LATER)
    assert again.verdict is HoldVerdict.REPEATED
    [listed] = store.holds.active()
    assert (listed.reason, listed.placed_at) == ("first", NOW)


def test_a_hold_may_be_placed_again_after_it_was_lifted(store: Store) -> None:
    for at in (NOW, LATER):
        store.holds.apply([Change(ACME.text, Place(ACME, "again")), Change(ACME.text, Lift())], at)
    [placed] = store.holds.apply([Change(ACME.text, Place(ACME, "now"))], LATER)
    assert placed.verdict is HoldVerdict.APPLIED
    assert [row.reason for row in store.holds.active()] == ["now"]


def test_holds_are_listed_oldest_first_and_one_does_not_touch_another(store: Store) -> None:
    every, model = Scope(), Scope(model="gpt-5-mini")
    for moment, scope in ((NOW, every), (SOON, model), (LATER, ACME)):
        store.holds.apply([Change(scope.text, Place(scope, "because"))], moment)
    store.holds.apply([Change(model.text, Lift())], LATER)
    assert [row.scope for row in store.holds.active()] == [every, ACME]


def test_lifting_what_was_never_held_or_is_lifted_changes_nothing(store: Store) -> None:
    [never] = store.holds.apply([Change(ACME.text, Lift())], NOW)
    assert (never.verdict, never.row) == (HoldVerdict.STALE, None)
    store.holds.apply([Change(ACME.text, Place(ACME, "because")), Change(ACME.text, Lift())], NOW)
    [again] = store.holds.apply([Change(ACME.text, Lift())], LATER)
    assert again.verdict is HoldVerdict.REPEATED
    assert again.row is not None
    assert again.row.lifted_at == NOW
