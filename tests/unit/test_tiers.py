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


SPELT = [
    *(
        "Fraud_Detection",
        "FRAUD_DETECTION",
        "fraud-detection",
        "Fraud-Detection ",
        " fraud_detection",
        "fraud detection",
    ),
    *("\tfraud_detection\n", "fraud__detection", "_fraud_detection_", "fraud - detection", "fraud\u2010detection"),
    *(
        "fraud\u2013detection",
        "fraud\u2212detection",
        "fraud\u00a0detection",
        "fraud\u3000detection",
        "fraud_detection\u200b",
    ),
    *(
        "fr\u00adaud_detection",
        "\ufefffraud_detection",
        "fraud_detection\ufe0f",
        "fraud\u203fdetection",
        "fr\u0430ud_detection",
    ),
    *(
        "\uff46\uff52\uff41\uff55\uff44\uff3f\uff44\uff45\uff54\uff45\uff43\uff54\uff49\uff4f\uff4e",
        "FR\u0410UD_DETECTI\u039fN",
    ),
    *(
        "fraud_detect\u0131on",
        "fr\u00e1ud_d\u0065\u0301tection",
        "\U0001d41f\U0001d42b\U0001d41aud_detection",
        "fraud_detection\u3164",
    ),
]


@pytest.mark.parametrize("kind", SPELT)
def test_a_type_is_never_batched_however_it_is_spelt(kind):
    made = message("x", Tier.LOW).model_copy(update={"type": kind})
    assert classify(made, ROUTES).tier is Tier.NORMAL
    assert "fraud_detection is never batched" in classify(made, ROUTES).reason
    tenant = message().model_copy(update={"tenant": kind})
    assert classify(tenant, protecting(tenants=["Fraud-Detection"])).tier is Tier.NORMAL
    for tags in ({kind: "yes"}, {"risk": kind}, {" Risk": f" {kind}"}):
        assert (
            classify(message(tags=tags), protecting(tags=["fraud-detection", "RISK=fraud_detection"])).tier
            is Tier.NORMAL
        )


@pytest.mark.parametrize("kind", ["Live-Chat-Response", "LIVE CHAT RESPONSE ", "live\u2010chat_r\u0435sponse"])
def test_a_never_batched_type_that_is_spelt_otherwise_gets_its_own_tier_all_the_same(kind):
    for priority in (None, Tier.LOW):
        decided = classify(message(kind, priority), ROUTES)
        assert decided.tier is Tier.CRITICAL


def test_a_type_spelt_otherwise_has_the_lanes_and_the_checks_of_its_entry():
    types = ROUTES.types | {"Email_Draft": ROUTES.types["email_draft"].model_copy(update={"validate_output": True})}
    del types["email_draft"]
    routes = ROUTES.model_copy(update={"types": types})
    assert all(routes.validates(kind) for kind in ("email_draft", "EMAIL-DRAFT", "Email_Draft"))
    assert routes.type_spec("email_drafts") is None


@pytest.mark.parametrize(
    "kind", ["fraud.detection", "frauddetection", "fraud_detections", "fraud", "detection_fraud", "-", ""]
)
def test_another_name_is_another_name(kind):
    assert classify(message("x", Tier.LOW).model_copy(update={"type": kind}), ROUTES).tier is Tier.LOW


def test_a_name_of_a_megabyte_is_compared_without_being_put_in_order():
    tags = {"a\u0327\u0301" * 200_000: "\ufdfa" * 100_000}
    assert classify(message(tags=tags), protecting(tags=["pii"])).tier is Tier.LOW
    assert classify(message(tags={"\u200b" * 300_000 + "PII": ""}), protecting(tags=["pii"])).tier is Tier.NORMAL


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
