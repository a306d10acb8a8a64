"""routes.toml, whatever it holds: refused in one line that names the line at fault, or in force as a whole."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files

import pytest

from lowtide.core.errors import ConfigError
from lowtide.core.rescues import Margins
from lowtide.core.routes import Routes
from lowtide.core.toml_lines import MOST_CHARACTERS, line_of

SHIPPED = files("lowtide").joinpath("routes.toml").read_text(encoding="utf-8")


def line(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Routes.load(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_000
    return str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "nan",
            "inf",
            "-inf",
            "1e400",
            "1e308",
            "9" * 20,
            "9" * 999,
            "9" * 5_000,
            "-" + "9" * 5_000,
            "1_" * 900 + "1",
        ),
        *("0x" + "f" * 60, "0x" + "f" * 5_000, "0", "-1", "true", '""', "[]", "{}", "1979-05-27", "07:32:00", "[[1]]"),
        *("[" * 60 + "]" * 60, "[" * 9_000, "{ a = " * 60 + "1" + " }" * 60, '"\\u0000"', "'''\n\n'''", str(2**63)),
    ],
)
@pytest.mark.parametrize(
    "setting",
    ["deadline_s = 30", "max_wait_s = 900", "attempts = 3", "after_s = 5", "poll_max_s = 300", "rescue_rate = 5"],
)
def test_no_value_in_place_of_a_number_is_taken_or_escapes(setting, value):
    name, _, _ = setting.partition(" = ")
    text = SHIPPED.replace(f"\n{setting}", f"\n{name} = {value}", 1)
    assert text != SHIPPED
    assert f"line {line(text, f'{name} = {value}')}" in refusal(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("age_s = 300,", "age_s = inf,"),
        ("depth = 10_000", "depth = 0x" + "f" * 40),
        ("timeout_s = 5 ", "timeout_s = 1e300 #"),
        ("mix = { simple = 0.5", "mix = { simple = nan"),
        ("mix = { simple = 0.5", 'mix = { simple = "sNaN"'),
        ('reasoning_effort = "none"', "reasoning_effort = nan"),
        ('reasoning_effort = "none"', f"reasoning_effort = {2**64}"),
        ('reasoning_effort = "none"', "reasoning_effort = 1979-05-27"),
        ('key = "openai"', 'key = "openai"\nbase_url = ""'),
        ('key = "openai"', 'key = "openai"\nbase_url = "api.openai.com/v1"'),
        ('key = "openai"', 'key = "openai"\nbase_url = "http://[::1"'),
        ('key = "openai"', 'key = "openai"\nbase_url = "https://host:99999/v1"'),
        ('key = "openai"', 'key = "openai"\nbase_url = "file:///etc/passwd"'),
        ('key = "openai"', 'key = "open\\u0000ai"'),
        ('"gpt-6-luna" = { flex', f'"{"x" * 300}" = {{ flex'),
        ('"gpt-6-luna" = { flex', '"gpt-6-luna" = { name = "gpt-5-pro", flex'),
        ('"gpt-6-luna" = { flex', '"gpt-6-luna" = { fallback = "*", flex'),
        ('"gpt-6-luna" = { flex', '"gpt-6-luna" = { provider = "nobody", flex'),
        ('simple = "gpt-6-luna"', 'simple = "*"'),
        ('simple = "gpt-6-luna"', 'simple = "\\u001b"'),
        ('template = "summary"', 'template = "\\u001b[31m"'),
        ("[providers.openai]", '[providers."open ai"]'),
        (
            'window = "24h"',
            'window = "24h"\noff_peak = [{ from = 9999-12-31, opens = 16:30:00, closes = 00:30:00, discount = 0.5 }]',
        ),
        (
            'window = "24h"',
            'window = "24h"\noff_peak = [{ from = 2026-03-01, opens = 25, closes = nan, discount = 0.5 }]',
        ),
        ('window = "24h"', 'window = "24h"\noff_peak = [{}]'),
        ("reply_to = []", "reply_to = [[1], { a = 1 }]"),
        ("tags = []", "tags = [1.5, [], {}]"),
    ],
)
def test_an_entry_that_would_fail_later_is_refused_now_with_its_line(old, new):
    text = SHIPPED.replace(old, new, 1)
    assert text != SHIPPED
    assert f"line {line(text, new.splitlines()[-1])}: " in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("\ufeff" + SHIPPED, id="BOM"),
        pytest.param(SHIPPED.encode("utf-16").decode("latin-1"), id="UTF-16"),
        pytest.param("\0" + SHIPPED, id="NUL"),
        pytest.param(SHIPPED.replace("\n", "\r"), id="carriage returns"),
        pytest.param(SHIPPED + "\n" + "a." * 40_000 + "a = 1", id="long dotted key"),
        pytest.param(SHIPPED + "\n[" + "'a' . " * 15_000 + "a]", id="long header"),
        pytest.param(SHIPPED + "\nx = {" + "a." * 40_000 + "a = 1}", id="long dotted key inside"),
        pytest.param(SHIPPED + "\nx = " + "[" * 100_000, id="deep"),
        pytest.param(SHIPPED + "\nx = " + '"""' * 30_000, id="quotes"),
        pytest.param(SHIPPED + "\nx = " + '\\"""' * 25_000, id="escaped quotes"),
        pytest.param(SHIPPED + "\n" + "." * 100_000, id="dots"),
        pytest.param(SHIPPED + "\n" + "a" * 100_000, id="letters"),
        pytest.param(SHIPPED + '\n"" = 1', id="empty key"),
        pytest.param(SHIPPED + "\n'\ud800' = 1", id="half a surrogate pair"),
        pytest.param(SHIPPED.replace("[tiers.", "[types."), id="no tiers"),
        pytest.param("tiers = 1\n" + SHIPPED, id="tiers twice"),
        pytest.param("models = []", id="models a list"),
    ],
)
def test_a_text_that_is_no_routes_file_is_refused_with_a_line(text):
    assert "line " in refusal(text)


def test_a_file_of_megabytes_is_not_even_parsed():
    assert f"keep it below {MOST_CHARACTERS}" in refusal("#" * 10_000_000)


def test_strings_and_comments_may_hold_what_keys_and_numbers_may_not():
    long = "a." * 50 + "[" * 100 + "9" * 2_000
    extra = f'# {long}\n[templates.""]\n'.replace('[templates.""]\n', "")
    text = SHIPPED.replace(
        "[templates]\n", f"{extra}[templates]\none = '{long}'\ntwo = \"{long}\"\nthree = '''\n{long}'' '''\n"
    )
    assert Routes.load(text).templates["one"] == long


def test_what_is_missing_is_named_with_the_line_at_which_its_table_begins_or_with_the_last():
    assert line_of(SHIPPED, ("tiers", "HIGHEST")) == line_of(SHIPPED, ("tiers",)) == line(SHIPPED, "[tiers.CRITICAL]")
    assert line_of("a = 1\n\nb = 2\n\n\n", ("c",)) == 3


@pytest.mark.parametrize("value", ["1e-300", "5e-324", "1e-9", "0.0009", "0.0000001"])
@pytest.mark.parametrize(
    "setting",
    [
        *("call_timeout_s = 15", "timeout_s = 5", "after_s = 5", "max_wait_s = 900", "shortest_deadline_s = 1_800"),
        *("poll_first_s = 1", "poll_max_s = 300", "rescue_cancel_s = 600", "rescue_answer_s = 900", "rescue_rate = 5"),
        *("base_s = 2", "cap_s = 300", "batch_base_s = 60"),
    ],
)
def test_no_number_is_taken_that_is_too_small_to_be_divided_by(setting, value):
    name = setting.partition(" = ")[0]
    text = SHIPPED.replace(f"\n{setting}", f"\n{name} = {value} #", 1)
    assert text != SHIPPED
    assert f"line {line(text, f'{name} = {value}')}" in refusal(text)


@pytest.mark.parametrize("rate", ["0.01", "0.5", "1e12"])
@pytest.mark.parametrize("tasks", [1, 50_000, 10**12])
def test_a_rescue_s_margin_stays_within_the_calendar(rate, tasks):
    text = SHIPPED.replace("\nrescue_rate = 5", f"\nrescue_rate = {rate} #")
    text = text.replace("\nrescue_answer_s = 900", "\nrescue_answer_s = 300_000_000 #")
    needed = Margins.of(Routes.load(text).batching).needed(tasks)
    assert datetime(2026, 3, 2, tzinfo=UTC) - needed < datetime(2026, 3, 2, tzinfo=UTC) + needed


def test_nothing_is_a_time_for_a_batch_to_be_due_in():
    """0 asks for no deadline at all."""
    text = SHIPPED.replace("\nshortest_deadline_s = 1_800", "\nshortest_deadline_s = 0 #")
    assert Routes.load(text).batching.shortest_deadline_s == 0
