"""routes.toml: the shipped file says what the design says, and a bad one is refused with its line."""

import tomllib
from datetime import date, time
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

import lowtide
from lowtide.core.batching import Batching
from lowtide.core.errors import ConfigError
from lowtide.core.lanes import Lane
from lowtide.core.pace_events import Ceiling
from lowtide.core.routes import Auto, Lanes, ProviderSpec, Retries, Routes
from lowtide.core.task import Endpoint
from lowtide.core.tiers import Tier

SHIPPED = (Path(lowtide.__file__).parent / "routes.toml").read_text(encoding="utf-8")
ROUTES = Routes.load(SHIPPED)


def changed(old, new):
    assert SHIPPED.count(old) == 1
    return SHIPPED.replace(old, new)


def line_of(text, needle):
    return next(number for number, line in enumerate(text.splitlines(), 1) if needle in line)


def test_the_tiers_have_the_deadlines_of_the_contract():
    deadlines = {tier: spec.deadline_s for tier, spec in ROUTES.tiers.items()}
    assert deadlines == {Tier.CRITICAL: 30, Tier.HIGH: 60, Tier.NORMAL: 3600, Tier.LOW: 86_400}


@pytest.mark.parametrize("tier", [Tier.CRITICAL, Tier.HIGH])
def test_an_urgent_call_that_fails_leaves_time_before_the_deadline(tier):
    assert ROUTES.tiers[tier].call_timeout_s < ROUTES.tiers[tier].deadline_s


def test_the_numbers_written_in_the_file_are_the_ones_that_hold_without_them():
    assert ROUTES.batching == Batching()
    assert ROUTES.retries == Retries()
    assert ROUTES.lanes == Lanes()
    assert ROUTES.providers["openai"] == ProviderSpec(key="openai", prompt_cache_key=True)
    assert ROUTES.auto == Auto(settings={"reasoning_effort": "none"})


@pytest.mark.parametrize("name", ["gpt-5", "gpt-5-mini", "gpt-5-nano", "o3", "o4-mini"])
def test_the_gpt_5_family_and_the_o_series_have_flex(name):
    assert ROUTES.model(name).flex


@pytest.mark.parametrize("name", ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "text-embedding-3-small", "some/other-model"])
def test_the_others_are_batched_and_have_no_flex(name):
    spec = ROUTES.model(name)
    assert (spec.name, spec.batch, spec.flex) == (name, True, False)


def test_a_dated_snapshot_is_what_its_family_is():
    assert ROUTES.model("gpt-5-mini-2025-08-07") == ROUTES.model("gpt-5-mini").model_copy(
        update={"name": "gpt-5-mini-2025-08-07"}
    )


def test_every_priced_model_can_be_bought_on_exactly_the_lanes_that_have_a_price():
    priced = orjson.loads((Path(lowtide.__file__).parent / "prices.json").read_bytes())["models"]
    lanes = {name: {Lane(lane) for lane in eras[-1]["lanes"]} for name, eras in priced.items()}
    for name, bought in lanes.items():
        spec = ROUTES.model(name)
        has = {Lane.BATCH: spec.batch, Lane.FLEX: spec.flex, Lane.PRIORITY: spec.priority}
        assert bought == {Lane.DEFAULT} | {lane for lane, on in has.items() if on}, name
    assert set(ROUTES.models) - {"*"} <= set(priced)


def test_an_unknown_model_has_the_default_capabilities_at_every_endpoint():
    spec = ROUTES.model("some/other-model")
    assert (spec.provider, spec.batch, spec.flex, spec.priority) == ("openai", True, False, False)
    assert set(spec.endpoints) == set(Endpoint)


def test_each_profile_names_a_model_that_is_known():
    assert set(ROUTES.profiles) == {"simple", "standard", "complex"}
    assert set(ROUTES.profiles.values()) <= set(ROUTES.models)


def test_without_batch_no_provider_batches_and_nothing_else_changes():
    synchronous = ROUTES.without_batch()
    assert not any(spec.batch for spec in synchronous.providers.values())
    assert synchronous.version != ROUTES.version
    kept = {"version", "providers"}
    assert synchronous.model_dump(exclude=kept) == ROUTES.model_dump(exclude=kept)


def test_no_reply_queue_is_allowed_until_the_deployment_names_it():
    assert ROUTES.limits.reply_to == frozenset()
    assert ROUTES.without_reply_list().limits.reply_to is None


def test_the_version_follows_the_content_and_not_the_comments():
    assert Routes.load("# a comment\n" + SHIPPED).version == ROUTES.version
    assert Routes.load(changed("deadline_s = 30\n", "deadline_s = 31\n")).version != ROUTES.version


def test_a_type_may_have_lanes_of_its_own():
    routes = Routes.load(changed('{ tier = "NORMAL", model = "complex" }', '{ tier = "NORMAL", lanes = ["default"] }'))
    assert routes.lanes_of("document_analysis", Tier.NORMAL) == (Lane.DEFAULT,)
    assert routes.lanes_of("meeting_summary", Tier.NORMAL) == (Lane.FLEX, Lane.DEFAULT)
    assert routes.lanes_of(None, Tier.NORMAL) == (Lane.FLEX, Lane.DEFAULT)


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        ("deadline_s = 30\n", "deadline_s = -30\n", "deadline_s = -30"),
        ("deadline_s = 60\n", 'deadline_s = "soon"\n', "soon"),
        ("attempts = 3 ", "attempt = 3 ", "attempt = 3"),
        ('email_draft = { tier = "HIGH"', 'email_draft = { tier = "URGENT"', "email_draft"),
        ('"gpt-5-nano" = { flex = true }', '"gpt-5-nano" = { flexible = true }', "flexible"),
        ('key = "openai"', "", "[providers.openai]"),
        ("max_wait_s = 900 ", "max_wait_s = 0 ", "max_wait_s = 0"),
        ("size = 500 }]", "size = 0 }]", "ladder = ["),
        ("{ size = 500 }]", "{ above = 10, size = 500 }]", "ladder = ["),
        ("{ above = 10_000, size = 50_000 }", "{ above = 1_000, size = 50_000 }", "ladder = ["),
        ('window = "24h"', 'window = "24h"\nmax_enqueued_tokens = 0', "max_enqueued_tokens = 0"),
        ('"o1" = {}', '"o1" = { batch_size = 0 }', '"o1"'),
        (
            'window = "24h"',
            'window = "24h"\noff_peak = [{ from = 2026-03-01, opens = 16:30:00, closes = 00:30:00, discount = 1.5 }]',
            "discount = 1.5",
        ),
        ("[retries]", "[retry]", "[retry]"),
        ('"gpt-4.1" = { priority = true }', '"gpt-4.1" = { provider = "" }', '"gpt-4.1"'),
        ("concurrency = 50\n", "concurrency = 50\nconcurrency = 60\n", "concurrency = 60"),
        ("part_tasks = 1_000", "part_tasks = ", "part_tasks"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_at_fault(old, new, at):
    text = changed(old, new)
    with pytest.raises(ConfigError, match=rf"line {line_of(text, at)}\b") as caught:
        Routes.load(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"*" = {', '"other" = {', r'\[models\] has no "\*"'),
        (f'standard = "{ROUTES.profiles["standard"]}"', "", r'\[profiles\] has no "standard"'),
        ('generic = """', 'general = """', r'\[templates\] has no "generic"'),
        ("[tiers.CRITICAL]", "[tiers.HIGHER]", r"tiers\.HIGHER"),
        ('template = "summary"', 'template = "haiku"', "template haiku"),
        ('"o1" = {}', '"o1" = { provider = "groq" }', "provider groq"),
    ],
)
def test_a_file_that_does_not_hang_together_is_refused_with_what_is_missing(old, new, said):
    with pytest.raises(ConfigError, match=said):
        Routes.load(changed(old, new))


def test_the_ladder_serves_every_depth():
    sizes = [ROUTES.batching.size_at(depth) for depth in (0, 1_000, 1_001, 10_000, 10_001, 10**9)]
    assert sizes == [500, 500, 5_000, 5_000, 50_000, 50_000]


def test_what_may_be_enqueued_is_the_models_own_limit_or_its_providers():
    text = SHIPPED.replace('window = "24h"', 'window = "24h"\nmax_enqueued_tokens = 700')
    routes = Routes.load(text.replace('"o1" = {}', '"o1" = { max_enqueued_tokens = 900, batch_size = 3 }'))
    assert routes.enqueued_limit("openai", "o1-2024-12-17") == 900
    assert routes.enqueued_limit("openai", "gpt-5") == 700
    assert ROUTES.enqueued_limit("openai", "gpt-5") is None
    assert routes.batch_tokens("openai", "gpt-5") == 700
    assert (routes.part_tasks("o1"), routes.part_tasks("gpt-5")) == (3, 500)


def test_an_off_peak_window_is_written_with_toml_s_own_dates_and_times():
    window = "{ from = 2026-03-01, until = 2026-06-01, opens = 16:30:00, closes = 00:30:00, discount = 0.5 }"
    routes = Routes.load(changed('window = "24h"', f'window = "24h"\noff_peak = [{window}]'))
    [off_peak] = routes.providers["openai"].off_peak
    assert (off_peak.opens, off_peak.closes) == (time(16, 30), time(0, 30))
    assert (off_peak.starts, off_peak.until, off_peak.discount) == (date(2026, 3, 1), date(2026, 6, 1), Decimal("0.5"))


def test_the_text_of_a_template_is_not_mistaken_for_the_line_at_fault():
    start = SHIPPED.index("[templates]\n")
    templates = SHIPPED[start:].replace('generic = """', 'generic = """\n[retries]\nattempts = 1\n')
    text = templates + SHIPPED[:start].replace("attempts = 3 ", "attempts = 0 ")
    with pytest.raises(ConfigError, match=rf"line {line_of(text, 'attempts = 0')}: retries"):
        Routes.load(text)


def test_a_tier_may_not_be_left_out():
    critical = SHIPPED[SHIPPED.index("[tiers.CRITICAL]") : SHIPPED.index("[tiers.HIGH]")]
    with pytest.raises(ConfigError, match=r"\[tiers\] has no CRITICAL"):
        Routes.load(SHIPPED.replace(critical, ""))


def test_the_version_is_not_for_the_file_to_say():
    with pytest.raises(ConfigError, match="version"):
        Routes.load('version = "1"\n' + SHIPPED)


def test_settings_left_out_have_their_defaults():
    table = tomllib.loads(SHIPPED)
    start, end = SHIPPED.index("[batching]"), SHIPPED.index("[limits]")
    routes = Routes.load(SHIPPED[:start] + SHIPPED[end:])
    assert "batching" in table
    assert routes.batching == ROUTES.batching
    assert routes.retries == ROUTES.retries


def test_a_model_s_ceiling_is_its_own_or_else_its_provider_s():
    text = changed('key = "openai"\n', 'key = "openai"\nrequests_per_minute = 5_000\ntokens_per_minute = 9_000\n')
    text = text.replace('"gpt-5-nano" = { flex = true }', '"gpt-5-nano" = { flex = true, requests_per_minute = 100 }')
    routes = Routes.load(text)
    assert routes.ceiling("gpt-5-nano-2025-08-07") == Ceiling(requests=100, tokens=9_000)
    assert routes.ceiling("gpt-5") == Ceiling(requests=5_000, tokens=9_000)
    assert ROUTES.ceiling("gpt-5") == Ceiling()


@pytest.mark.parametrize("fallback", ["gpt-5-nano", "nobody-s-model"])
def test_a_fallback_is_another_model_of_the_table(fallback):
    text = changed('"gpt-5-nano" = { flex = true }', f'"gpt-5-nano" = {{ fallback = "{fallback}" }}')
    with pytest.raises(ConfigError, match="falls back on"):
        Routes.load(text)


@pytest.mark.parametrize(
    "other", ["Email_Draft", "email-draft", "email draft", '"email\u2010draft"', '"\uff45mail_draft"']
)
def test_two_spellings_of_one_type_are_refused(other):
    name = other if other.startswith('"') else f'"{other}"'
    text = changed("email_draft = {", f'{name} = {{ tier = "LOW" }}\nemail_draft = {{')
    with pytest.raises(ConfigError, match=r"line \d+: types\..* is compared as .* keep one of the two"):
        Routes.load(text)
