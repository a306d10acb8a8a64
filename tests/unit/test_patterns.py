"""lowtide.core.patterns: ECMA's patterns by RE2, and what is not judged."""

from __future__ import annotations

import pytest

from lowtide.core.patterns import LONGEST_PATTERN, MOST_WORK, Patterns

NBSP, NARROW = "\u00a0", "\u202f"


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("ide", "tides", True),
        ("^ide", "tides", False),
        ("^a$", "a\n", False),
        (r"^\d+$", "12", True),
        (r"^\d+$", "١٢", False),
        (r"^1\s000$", f"1{NARROW}000", True),
        (r"^[\s\d]+$", f"1{NBSP}0", True),
        (r"^[^\s]+$", f"1{NBSP}0", False),
        (r"^\S+$", "a b", False),
        (r"^\\s$", r"\s", True),
        (r"^\u0041\u00e9$", "Aé", True),
        (r"^[\u0041-\u0043]+$", "ABC", True),
        (r"^\\u0041$", r"\u0041", True),
        (r"^\/\-\.$", "/-.", True),
        ("(?<year>[0-9]{4})-(?<month>[0-9]{2})", "2026-03", True),
        (r"^\p{L}+$", "größe", True),
        ("^.{0,1000}$", "é" * 999, True),
        ("(a+)+$", "a" * 40 + "!", False),
        ("(a|a)*b", "a" * 100_000, False),
        ("a?" * 100 + "a" * 100, "a" * 100, True),
        ("(x+x+)+y", "x" * 100_000, False),
        ("", "", True),
        ("\x00", "a\x00b", True),
    ],
)
def test_a_pattern_is_searched_for_as_ecma_262_has_it(pattern, text, found):
    assert Patterns().matches(pattern, text) is found


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", "[", "*", "a**", r"\k<a>", "(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", r"(a)\1", r"\cA", r"\u{1F600}", "\\"),
        *("a{1001}", "a{4294967296}", "a{0,100000}", "a{99999,}", "(" * 5_000, "(?:a{1000}){1000}", r"[\pL\pN]{1000}"),
        *("a" * (LONGEST_PATTERN + 1), "\ud800", "[^]", "a(?#x)"),
    ],
)
def test_what_re2_does_not_know_or_hold_is_not_judged(pattern):
    assert Patterns().matches(pattern, "a") is None


def test_only_so_much_is_searched_for_one_answer():
    patterns, judged = Patterns(), 0
    pattern, text = "[01]*1[01]{900}x", "01" * 5_000
    while patterns.matches(pattern, text) is not None:
        judged += 1
    assert 1 <= judged <= MOST_WORK // (900 * 10_000)
    assert patterns.matches("1", "01") is True


def test_only_so_many_patterns_are_compiled_for_one_answer():
    patterns = Patterns()
    for number in range(100):
        assert patterns.matches(rf"\pL{{{900 + number}}}", "a") is None
    assert patterns.matches("a", "a") is None


def test_a_pattern_is_compiled_once_for_an_answer():
    patterns = Patterns()
    large = r"^\pL{5}$"
    assert all(patterns.matches(large, "") is False for _ in range(1_000))
