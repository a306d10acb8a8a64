"""Classification: priority over type, NORMAL for the unknown, and what is never batched is never LOW."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowtide
from lowtide.core.message import TaskMessage
from lowtide.core.routes import NeverBatch, Routes
from lowtide.core.tiers import Tier, classify

ROUTES = Routes.load((Path(lowtide.__file__).parent / "routes.toml").read_text(encoding="utf-8"))

BY_TIER = {
    Tier.CRITICAL: ["live_chat_response", "voice_agent_reply", "safety_check"],
    Tier.HIGH: ["email_draft", "ticket_classification", "escalation_decision"],
    Tier.NORMAL: ["meeting_summary", "document_analysis", "lead_scoring"],
    Tier.LOW: ["content_generation", "bulk_classification", "data_enrichment", "report_generation"],
}
NEVER = [
    "live_chat_response",
    "voice_agent_reply",
    "safety_check",
    "content_moderation",
    "fraud_detection",
    "escalation_decision",
    "alert_triage",
]


def message(kind="content_generation", priority=None, tenant="acme", tags=None):
    return TaskMessage(task_id="t", type=kind, priority=priority, tenant=tenant, tags=tags or {}, payload={})


def protecting(**lists):
    return ROUTES.model_copy(update={"never_batch": NeverBatch(**{k: frozenset(v) for k, v in lists.items()})})


@pytest.mark.parametrize(("tier", "kind"), [(tier, kind) for tier, kinds in BY_TIER.items() for kind in kinds])
def test_each_default_type_has_its_tier(tier, kind):
    decided = classify(message(kind), ROUTES)
    assert decided.tier is tier
    assert decided.reason == f"type {kind} is {tier.value}"


def test_an_unknown_type_is_normal():
    decided = classify(message("haiku"), ROUTES)
    assert (decided.tier, decided.reason) == (Tier.NORMAL, "type haiku is unknown, so NORMAL")


@pytest.mark.parametrize("priority", list(Tier))
def test_a_priority_wins_over_the_type(priority):
    decided = classify(message("meeting_summary", priority), ROUTES)
    assert (decided.tier, decided.reason) == (priority, f"priority {priority.value} asked")


@pytest.mark.parametrize("kind", NEVER)
def test_a_type_that_is_never_batched_gets_its_own_tier_or_normal_when_low_is_asked(kind):
    own = next((tier for tier, kinds in BY_TIER.items() if kind in kinds), Tier.NORMAL)
    decided = classify(message(kind, Tier.LOW), ROUTES)
    assert decided.tier is own
    assert decided.reason == f"priority LOW asked, but {kind} is never batched, so {own.value}"


@pytest.mark.parametrize(
    ("lists", "protected"),
    [
        ({"tenants": ["acme"]}, "tenant acme"),
        ({"tags": ["pii"]}, "tag pii"),
        ({"tags": ["pii=yes"]}, "tag pii=yes"),
        ({"types": ["content_generation"]}, "content_generation"),
    ],
)
def test_tenants_and_tags_protect_even_a_low_type(lists, protected):
    decided = classify(message(tags={"pii": "yes"}), protecting(**lists))
    assert decided.tier is Tier.NORMAL
    assert decided.reason == f"type content_generation is LOW, but {protected} is never batched, so NORMAL"


def test_another_tenant_or_another_value_of_a_tag_is_not_protected():
    routes = protecting(tenants=["globex"], tags=["pii=yes"])
    assert classify(message(tags={"pii": "no"}), routes).tier is Tier.LOW


def test_protection_does_not_slow_down_what_asks_for_more_than_low():
    assert classify(message("fraud_detection", Tier.CRITICAL), ROUTES).tier is Tier.CRITICAL


@given(
    st.sampled_from([*NEVER, *sum(BY_TIER.values(), []), "haiku", None]),  # noqa: RUF017 - thirteen names
    st.sampled_from([*Tier, None]),
    st.sampled_from(["acme", "globex"]),
    st.dictionaries(st.sampled_from(["pii", "team"]), st.sampled_from(["yes", "no"])),
)
def test_nothing_protected_is_ever_low_and_every_choice_has_its_reason(kind, priority, tenant, tags):
    routes = protecting(types=NEVER, tenants=["globex"], tags=["pii=yes"])
    task = message(kind, priority if kind else priority or Tier.LOW, tenant, tags)
    decided = classify(task, routes)
    assert decided.reason
    if kind in NEVER or tenant == "globex" or tags.get("pii") == "yes":
        assert decided.tier is not Tier.LOW
    elif task.priority is not None:
        assert decided.tier is task.priority
