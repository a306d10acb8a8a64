"""``auto``: asked where it pays, in a bounded question; believed where the reply is one of three words."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

import lowtide
from lowtide.adapters.shipped import shipped_prices, shipped_routes
from lowtide.core.acceptance import accept, queue_for, with_model
from lowtide.core.charges import Seller
from lowtide.core.errors import ConfigError, Refused
from lowtide.core.lanes import Lane
from lowtide.core.model import usd_text
from lowtide.core.offpeak import OffPeak
from lowtide.core.outcomes import Response
from lowtide.core.profiles import Question, Reply, ask_or_choose, question_id, reply
from lowtide.core.routes import PROFILES, Auto, Limits, Mix, Routes, TypeSpec
from lowtide.core.task import custom_id
from lowtide.core.task_rows import ModelChoice
from lowtide.core.tiers import Tier

NOW = datetime(2026, 11, 2, 10, tzinfo=UTC)
PRICES = shipped_prices()
SHIPPED_TEXT = (Path(lowtide.__file__).parent / "routes.toml").read_text(encoding="utf-8")
AUTO_TYPE = 'document_analysis = { tier = "NORMAL", model = "auto" }'
SHIPPED = shipped_routes()
SIMPLE, STANDARD, COMPLEX = (SHIPPED.profiles[profile] for profile in PROFILES)
ROUTES = SHIPPED.model_copy(
    update={
        "types": SHIPPED.types
        | {
            "document_analysis": TypeSpec(tier=Tier.NORMAL, model="auto"),
            "report_generation": TypeSpec(tier=Tier.LOW, model="auto"),
        }
    }
)


def taken(kind="document_analysis", routes=ROUTES, **payload):
    raw = {"task_id": "t", "type": kind, "payload": payload or {"text": "What do these two contracts say of notice?"}}
    return accept(raw, origin="m/0", sent_at=NOW, routes=routes)


def found(task, routes=ROUTES):
    return ask_or_choose(task, 1, NOW, routes, lambda _: Seller(PRICES))


def with_auto(**changes):
    return ROUTES.model_copy(update={"auto": Auto(**changes)})


def with_limits(**limits):
    return ROUTES.model_copy(update={"limits": Limits(**limits)})


def asked(task=None) -> Question:
    question = found(task or taken())
    assert isinstance(question, Question)
    return question


def said(content, *, status=200, usage=(120, 1)):
    body = {"choices": [{"message": {"role": "assistant", "content": content}}], "service_tier": "default"}
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Response(status, body)


def rate(model, lane=Lane.DEFAULT):
    """US dollars per million tokens."""
    return PRICES.models[model][-1].lanes[lane]


ASKED_USD = (120 * rate(SIMPLE).input + 1 * rate(SIMPLE).output) / 1_000_000
"""What the question costs whose usage ``said`` reports."""


def heard(response) -> Reply:
    return reply(taken(), asked(), response, Seller(PRICES), NOW)


def test_no_shipped_type_is_auto():
    assert not any(spec.model == "auto" for spec in SHIPPED.types.values())


def test_a_task_of_an_auto_type_has_its_three_candidates_and_standard_for_the_time_being():
    task = taken()
    assert task.candidates == SHIPPED.profiles
    assert task.model == STANDARD


def test_a_body_that_names_its_model_is_never_asked_about():
    body = {"model": "auto", "messages": [{"role": "user", "content": "?"}]}
    raw = {"task_id": "t", "type": "document_analysis", "request": {"url": "/v1/chat/completions", "body": body}}
    task = accept(raw, origin="m/0", sent_at=NOW, routes=ROUTES)
    assert (task.model, task.candidates) == ("auto", None)


def test_only_models_that_the_deployment_allows_are_candidates():
    task = taken(routes=with_limits(models=frozenset({SIMPLE, STANDARD})))
    assert task.candidates == {"simple": SIMPLE, "standard": STANDARD}
    alone = taken(routes=with_limits(models=frozenset({STANDARD})))
    assert (alone.model, alone.candidates) == (STANDARD, None)
    with pytest.raises(Refused):
        taken(routes=with_limits(models=frozenset({COMPLEX})))


def test_the_question_is_short_fixed_text_first_and_bounded_in_what_it_may_say():
    question = asked(taken(text="word " * 10_000))
    first, second = question.body["messages"]
    assert first["role"] == "system"
    assert len(second["content"]) <= ROUTES.auto.prompt_chars + len("document_analysis\n")
    assert second["content"].startswith("document_analysis\n")
    assert (question.model, question.body["max_completion_tokens"]) == (SIMPLE, 32)
    assert question.body["reasoning_effort"] == SHIPPED.auto.settings["reasoning_effort"]


def test_a_question_has_an_id_of_its_own_among_those_of_its_task():
    ours = question_id("acme", "t", 2)
    digest, _, number = custom_id("acme", "t", 2).rpartition("-")
    assert ours == f"{digest}-q{number}"


def test_asking_for_what_would_be_complex_nearly_always_does_not_pay():
    certain = with_auto(mix=Mix(simple=Decimal(0), standard=Decimal(0), complex=Decimal(1)))
    choice = found(taken(), certain)
    assert isinstance(choice, ModelChoice)
    assert (choice.profile, choice.model, choice.question_id) == ("complex", COMPLEX, None)
    assert "could save" in choice.reason


def test_the_dearer_the_asker_the_less_often_it_is_asked():
    assert isinstance(found(taken(), with_auto(model=SIMPLE)), Question)
    assert isinstance(found(taken(), with_auto(model="gpt-5.4-pro", max_tokens=400)), ModelChoice)


def test_asking_pays_exactly_where_the_expected_saving_is_more_than_its_price():
    """By hand: the question is priced as its characters by four and its whole allowance of output."""
    task = taken()
    tokens_in = sum(len(message["content"]) for message in asked(task).body["messages"]) // 4
    price = (tokens_in * rate(SIMPLE).input + 32 * rate(SIMPLE).output) / 1_000_000
    body_in = (len(task.prompt) + len('{"text":"What do these two contracts say of notice?"}')) // 4
    # NORMAL is bought on flex.
    dear, cheap = rate(COMPLEX, Lane.FLEX), rate(STANDARD, Lane.FLEX)
    out_usd = (dear.output - cheap.output) / 1_000_000
    in_usd = body_in * (dear.input - cheap.input) / 1_000_000
    share = Decimal("0.05")
    outcomes = set()
    for output_tokens in range(1, 600):
        mix = Mix(simple=Decimal(0), standard=share, complex=1 - share)
        outcome = found(task, with_auto(output_tokens=output_tokens, mix=mix))
        outcomes.add(isinstance(outcome, Question))
        assert isinstance(outcome, Question) == (share * (in_usd + output_tokens * out_usd) > price)
    assert outcomes == {True, False}


def test_where_a_price_is_not_known_the_profile_is_standard_and_nothing_is_asked():
    foreign = ROUTES.model_copy(update={"profiles": ROUTES.profiles | {"complex": "llama-99"}})
    choice = found(taken(routes=foreign), foreign)
    assert isinstance(choice, ModelChoice)
    assert (choice.profile, choice.reason) == ("standard", "auto: standard, as llama-99 has no price to go by")


@pytest.mark.parametrize("text", ["simple", " Complex\n", "STANDARD"])
def test_one_of_the_three_words_is_believed(text):
    answer = heard(said(text))
    assert answer.choice.profile == text.strip().casefold()
    assert answer.choice.model == taken().candidates[answer.choice.profile]
    assert answer.choice.question_id == asked().call_id
    assert answer.spent_usd == ASKED_USD
    assert f"{SIMPLE} was asked (${usd_text(ASKED_USD)})" in answer.choice.reason


def test_a_question_asked_off_peak_costs_what_calls_cost_then():
    hours = {"from": "2020-01-01", "opens": "00:00", "closes": "23:59", "discount": "0.5", "lanes": ["default"]}
    answer = reply(taken(), asked(), said("simple"), Seller(PRICES, (OffPeak.model_validate(hours),)), NOW)
    assert answer.spent_usd == ASKED_USD / 2


@pytest.mark.parametrize("text", ["", "simple.", "simple or complex", "trivial", None, "sim"])
def test_anything_else_is_standard_and_paid_for_all_the_same(text):
    answer = heard(said(text))
    assert (answer.choice.profile, answer.spent_usd) == ("standard", ASKED_USD)
    assert answer.choice.question_id == asked().call_id


@pytest.mark.parametrize("body", [None, {}, {"choices": []}, {"choices": [{}]}, {"choices": "simple"}, ["simple"]])
def test_a_body_of_another_shape_is_standard(body):
    assert heard(Response(200, body)).choice.profile == "standard"


@pytest.mark.parametrize(
    ("response", "unsure"),
    [
        (Response(429, {"error": {"code": "rate_limit_exceeded"}}), False),
        (Response(500, {}), False),
        (Response(None, fault="timeout", sent=True), True),
        (Response(None, fault="connection", sent=False), False),
    ],
)
def test_a_question_that_fails_is_not_asked_again(response, unsure):
    answer = heard(response)
    assert (answer.choice.profile, answer.spent_usd, answer.unsure) == ("standard", 0, unsure)
    assert answer.choice.question_id is None


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": None},
        {"usage": {"prompt_tokens": 120}},
        {"service_tier": "flex_2"},
        {"service_tier": "ultrafast"},
        {"model": SIMPLE, "usage": {"prompt_tokens": 120, "completion_tokens": "one"}},
    ],
)
@pytest.mark.parametrize("word", ["simple", "perhaps"])
def test_a_question_whose_price_is_not_known_was_billed_all_the_same(fields, word):
    response = said(word)
    answer = heard(Response(200, response.body | fields))
    assert (answer.spent_usd, answer.unpriced, answer.unsure) == (0, True, False)
    assert answer.choice.question_id == asked().call_id
    assert "was asked (price unknown)" in answer.choice.reason


def test_a_question_to_a_model_without_a_price_was_billed_all_the_same():
    answer = reply(taken(), Question("our-own", {}, "id"), said("simple"), Seller(PRICES), NOW)
    assert (answer.spent_usd, answer.unpriced, answer.choice.question_id) == (0, True, "id")


def test_a_reply_that_failed_at_work_and_says_what_it_used_was_billed():
    usage = {"prompt_tokens": 120, "completion_tokens": 1}
    answer = heard(Response(200, {"choices": [], "error": {"code": 502, "message": "No."}, "usage": usage}))
    assert (answer.spent_usd, answer.unpriced, answer.unsure) == (ASKED_USD, False, False)
    assert (answer.choice.profile, answer.choice.question_id) == ("standard", asked().call_id)


def test_a_profile_that_is_not_allowed_here_is_standard():
    routes = with_limits(models=frozenset({STANDARD, COMPLEX}))
    task = taken(routes=routes)
    question = found(task, routes)
    assert isinstance(question, Question)
    assert reply(task, question, said("simple"), Seller(PRICES), NOW).choice.profile == "standard"


def test_a_low_task_without_a_model_goes_with_normal_and_with_one_into_a_batch():
    task = taken("report_generation")
    assert (task.tier, queue_for(task)) == (Tier.LOW, Tier.NORMAL)
    decided = with_model(task, ModelChoice(profile="simple", model=SIMPLE, reason="auto: simple"), ROUTES)
    assert (decided.model, decided.candidates, queue_for(decided)) == (SIMPLE, None, Tier.LOW)
    assert decided.route == f"{task.route}; auto: simple"


def test_a_model_that_cannot_be_batched_keeps_a_low_task_where_it_is():
    unbatched = ROUTES.models[SIMPLE].model_copy(update={"batch": False})
    routes = ROUTES.model_copy(update={"models": ROUTES.models | {SIMPLE: unbatched}})
    choice = ModelChoice(profile="simple", model=SIMPLE, reason="auto: simple")
    assert queue_for(with_model(taken("report_generation"), choice, routes)) is Tier.NORMAL


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (f'simple = "{SIMPLE}"\n', "", "has no simple"),
        ("[profiles]\n", f'[profiles]\nauto = "{COMPLEX}"\n', "which is no profile"),
        ('model = "simple"      # who', 'model = "text-embedding-3-small" # who', "answers no /v1/chat"),
        ("simple = 0.5, standard", "simple = 0.6, standard", "add up to 1.1"),
        ("{ simple = 0.5, standard", "{ easy = 0.5, standard", "auto.mix.easy"),
    ],
)
def test_a_file_that_could_not_be_asked_by_is_refused(old, new, told):
    text = SHIPPED_TEXT.replace('document_analysis = { tier = "NORMAL", model = "complex" }', AUTO_TYPE)
    assert Routes.load(text).types["document_analysis"].model == "auto"
    assert text.count(old) == 1
    with pytest.raises(ConfigError, match=told):
        Routes.load(text.replace(old, new))


def test_the_reply_has_the_price_of_the_day_and_of_the_lane_that_served_it():
    response = said("simple")
    flexed = replace(response, body=response.body | {"service_tier": "flex"})
    assert heard(flexed).spent_usd == ASKED_USD / 2
