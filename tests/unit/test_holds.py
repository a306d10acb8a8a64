from __future__ import annotations

import pytest

from lowtide.core.holds import HoldRow, InForce, Scope
from tests.contract.cases import LOT, NOW, part

ALL, ACME, MINI = Scope(), Scope(tenant="acme"), Scope(model=LOT.model)
ACME_MINI, ACME_NANO = Scope(tenant="acme", model=LOT.model), Scope(tenant="acme", model="gpt-5-nano")
ANYBODYS, ACMES, GLOBEXS = part(1), part(2, tenant="acme"), part(3, tenant="globex")


def in_force(*scopes: Scope) -> InForce:
    return InForce.of(HoldRow(scope=scope, reason="because", placed_at=NOW) for scope in scopes)


@pytest.mark.parametrize(
    ("scopes", "held"),
    [
        ((), []),
        ((ALL,), [ANYBODYS, ACMES, GLOBEXS]),
        ((MINI,), [ANYBODYS, ACMES, GLOBEXS]),
        ((Scope(model="gpt-5-nano"),), []),
        ((ACME,), [ACMES]),
        ((ACME_MINI,), [ACMES]),
        ((ACME_NANO,), []),
        ((ACME_NANO, Scope(tenant="globex")), [GLOBEXS]),
    ],
)
def test_a_part_is_held_by_a_scope_that_covers_all_its_tasks(scopes, held):
    now = in_force(*scopes)
    assert [each for each in (ANYBODYS, ACMES, GLOBEXS) if now.holds(each)] == held


@pytest.mark.parametrize(
    ("scope", "apart"), [(ALL, False), (MINI, False), (ACME, True), (ACME_MINI, True), (ACME_NANO, False)]
)
def test_only_who_is_singled_out_is_drained_apart(scope, apart):
    assert in_force(scope).apart("acme", LOT.model) is apart
    assert not in_force(scope).apart("globex", LOT.model)


def test_a_lifted_hold_holds_nothing():
    lifted = HoldRow(scope=ALL, reason="because", placed_at=NOW, lifted_at=NOW, state="lifted")
    assert not InForce.of([lifted]).holds(ANYBODYS)


def test_a_scope_says_what_it_covers():
    assert [scope.text for scope in (ALL, ACME, MINI, ACME_MINI)] == [
        "all LOW",
        "tenant acme",
        "model gpt-5-mini",
        "tenant acme, model gpt-5-mini",
    ]
