"""A deployment's own routes, laid over the shipped file: only what differs, refused with the line at fault."""

from __future__ import annotations

from importlib.resources import files

import pytest

from lowtide.core.errors import ConfigError
from lowtide.core.lanes import Lane
from lowtide.core.overlays import MOST_FAULTS, overlaid, read_overlay
from lowtide.core.routes import Routes
from lowtide.core.tiers import Tier

SHIPPED = files("lowtide").joinpath("routes.toml").read_text(encoding="utf-8")
ROUTES = Routes.load(SHIPPED)


def told(text):
    """(line, problem) of everything that is wrong."""
    return [(fault.line, fault.problem) for fault in read_overlay(SHIPPED, text).faults]


def changes(text):
    return {".".join(change.steps): (change.before, change.after) for change in read_overlay(SHIPPED, text).changes}


@pytest.mark.parametrize("text", ["# nothing differs", "\n# nothing\n\n[tiers]\n[models]\n", SHIPPED, "remove = []"])
def test_what_differs_in_nothing_is_the_shipped_file(text):
    assert overlaid(SHIPPED, text) == ROUTES
    assert changes(text) == {}


def test_a_full_file_is_an_overlay_that_may_differ_in_anything():
    text = SHIPPED.replace("deadline_s = 30\n", "deadline_s = 31\n")
    assert overlaid(SHIPPED, text) == Routes.load(text)


def test_a_table_is_laid_over_a_table_and_keeps_what_is_not_named():
    routes = overlaid(SHIPPED, '[types]\nemail_draft = { tier = "LOW" }\n[tiers.LOW]\ncap = { depth = 7 }')
    assert routes.types["email_draft"] == ROUTES.types["email_draft"].model_copy(update={"tier": Tier.LOW})
    assert routes.tiers[Tier.LOW].cap == ROUTES.tiers[Tier.LOW].cap.model_copy(update={"depth": 7})


@pytest.mark.parametrize(
    "text",
    [
        "[tiers.NORMAL]\nlanes = ['default']",
        "tiers.NORMAL.lanes = ['default']",
        "tiers = { NORMAL = { lanes = ['default'] } }",
    ],
)
def test_an_array_replaces_an_array_however_the_table_is_written(text):
    assert overlaid(SHIPPED, text).tiers[Tier.NORMAL].lanes == (Lane.DEFAULT,)
    assert changes(text) == {"tiers.NORMAL.lanes": (["flex", "default"], ["default"])}


def test_what_is_removed_is_as_if_it_had_never_shipped():
    removed = ['models."o1"', "types.lead_scoring", "auto.settings.reasoning_effort", "tiers.LOW.cap"]
    routes = overlaid(SHIPPED, f"remove = {removed}")
    assert "o1" not in routes.models
    assert routes.model("o1").endpoints == ROUTES.models["*"].endpoints
    assert routes.type_spec("lead_scoring") is None
    assert routes.auto.settings == {}
    assert routes.version != ROUTES.version
    assert set(changes(f"remove = {removed}")) == {key.replace('"', "") for key in removed}


def test_a_section_that_is_removed_may_be_written_anew():
    routes = overlaid(SHIPPED, "remove = ['types', 'types.email_draft']\n[types]\nchat = { tier = 'HIGH' }")
    assert set(routes.types) == {"chat"}


def test_an_entry_that_a_later_release_no_longer_ships_is_removed_without_complaint():
    read = read_overlay(SHIPPED, "remove = [\n  'types.gone',\n  'models.gpt-2',\n]")
    assert read.routes == ROUTES
    assert [(each.line, each.problem.partition(" ")[0]) for each in read.without_effect] == [
        (2, "types.gone"),
        (3, "models.gpt-2"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[tiers.LOW]\ndeadline_s = -1", 2, "tiers.LOW.deadline_s"),
        ("# a\n\ntiers.LOW.deadline_s = 'soon'", 3, "tiers.LOW.deadline_s"),
        ("[retry]\nattempts = 1", 1, "retry"),
        ("[types]\nx = { tier = 'LO' }", 2, "types.x.tier"),
        ("[types]\nx = { model = 'simple' }", 2, "types.x.tier"),
        ("types = 5", 1, "types"),
        ("[types]\n\n'E-Mail Draft' = { tier = 'LOW' }\nemail-draft = { tier = 'LOW' }", 4, "types.email-draft"),
        ("[types]\nx = { tier = 'LOW', template = 'haiku' }", 2, "template haiku"),
        ("[models]\n'm' = { provider = 'groq' }", 2, "provider groq"),
        ("[models]\n'm' = { name = 'n' }", 2, "models.m.name"),
        ("[batching]\nladder = [{ above = 5, size = 1 }]", 2, "batching"),
        ("version = '1'", 1, "version"),
        ("a = 1\na = 2", 2, "no TOML"),
        ("", 1, "is empty"),
        (" \n\t\n", 1, "is empty"),
        ("remove = 'types'", 1, "array of dotted keys"),
        ("[remove]\ntypes = true", 1, "array of dotted keys"),
        ("remove = [\n'types.lead_scoring',\n'typos.x',\n]", 3, "typos.x is in no section"),
        ("remove = ['a b']", 1, "no dotted key"),
        ("remove = ['types.x = 1']", 1, "no dotted key"),
        ("remove = ['types.x\ny']".replace("\n", "\\n"), 1, "no dotted key"),
        ("remove = [7]", 1, "no dotted key"),
        ("remove = ['version']", 1, "in no section"),
        ("# a\nremove = ['models.\"*\"']\n[models]\n'm' = {}", 2, r"[models] has no "),
        ("remove = ['profiles.simple',\n'profiles.standard']", 2, "[profiles] has no"),
        ("remove = ['tiers.LOW']", 1, "[tiers] has no LOW"),
        ("remove = [\n'tiers.LOW.deadline_s']", 2, "tiers.LOW.deadline_s"),
        ("remove = ['templates.summary']", 1, "names the template summary"),
        ("remove = ['providers.openai']", 1, "names the provider openai"),
        ("remove = ['providers']\n[limits]\nmax_tokens = 0", 1, "providers"),
    ],
)
def test_a_bad_overlay_is_refused_with_its_own_line(text, line, said):
    with pytest.raises(ConfigError) as refused:
        overlaid(SHIPPED, text)
    assert f"line {line}" in str(refused.value)
    assert said in str(refused.value)
    assert str(refused.value).isprintable()


def test_everything_that_is_wrong_is_told_in_the_order_of_the_lines():
    text = "[limits]\nmax_tokens = 0\n[tiers.LOW]\ndeadline_s = -1\nconcurrency = 'many'\n[retries]\nattempts = 0"
    assert [line for line, _ in told(text)] == [2, 4, 5, 7]


def test_of_a_file_with_thousands_of_faults_the_first_are_told():
    text = "[types]\n" + "".join(f"t{number} = {{ tier = 'X' }}\n" for number in range(4_000))
    assert len(told(text)) == MOST_FAULTS


def test_a_change_names_its_line_and_what_was_there():
    text = "# ours\n[tiers.CRITICAL]\ndeadline_s = 20\n\n[types]\nx = { tier = 'LOW' }\n[never_batch]\ntags = ['gdpr']"
    read = read_overlay(SHIPPED, text)
    assert {
        (change.line, ".".join(change.steps), change.before, change.after if change.line != 8 else None)
        for change in read.changes
        if change.line != 8
    } == {
        (3, "tiers.CRITICAL.deadline_s", 30, 20),
        (6, "types.x.tier", None, "LOW"),
    }
    assert changes(text)["never_batch.tags"] == ([], ["gdpr"])


def test_a_number_of_another_kind_is_a_change():
    assert changes("[preemption]\nafter_s = 5.0\n") == {"preemption.after_s": (5, 5.0)}


def test_a_header_with_brackets_in_its_quotes_has_its_line():
    text = """
[types]
a = { tier = "LOW" }
[models."ft:x[1]"]
endpoints = ["/v1/chat/completions"]
batch_size = "x"
[tiers.CRITICAL]
deadline_s = 20
"""
    assert [line for line, _ in told(text)] == [6]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("remove = [\n  # types.gone\n  'types.gone',\n]", 3),
        ("remove = [\n  'types.gone-too', 'types.more',\n  'types.gone',\n]", 3),
        ("remove = [\n  'models.gone',\n  'types.gone' ]", 3),
        ('remove = [\n  "types.gone\\u002Dtoo",\n  "types.gone", # "types.gone"\n]', 3),
        ("remove = [\n  'models.\"]\"',\n\n  'types.\"gone\"']\n[types]\ngone = { tier = 'LOW' }", 4),
    ],
)
def test_an_entry_of_remove_has_the_line_of_the_whole_text_that_names_it(text, line):
    absent = read_overlay(SHIPPED, text).without_effect
    assert [each.line for each in absent if each.problem.startswith("types.gone is")] == [line]


@pytest.mark.parametrize("number", ["99999999999999999999999", "-9223372036854775809", "0xffffffffffffffffff"])
@pytest.mark.parametrize("value", ["{}", "[{}]", "{{ a = {} }}"])
def test_an_integer_beyond_64_bits_is_refused_with_its_line(number, value):
    with pytest.raises(ConfigError, match=r"line 2: tiers\.CRITICAL\.deadline_s.*beyond 64 bits"):
        read_overlay(SHIPPED, f"[tiers.CRITICAL]\ndeadline_s = {value.format(number)}\n")


def test_a_byte_order_mark_is_no_part_of_an_overlay():
    assert overlaid(SHIPPED, "\ufeff[tiers.CRITICAL]\ndeadline_s = 20\n").tiers[Tier.CRITICAL].deadline_s == 20
