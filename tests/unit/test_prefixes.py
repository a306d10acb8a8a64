"""Requests that begin alike get keys that sort side by side."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.prefixes import prefix_key

TEMPLATES = ["x" * 300 + name * 4_000 for name in "abc"]


def body(template: str, question: str, **more: object) -> dict[str, object]:
    messages = [{"role": "system", "content": template}, {"role": "user", "content": question}]
    return {"model": "gpt-5-mini", "messages": messages, **more}


@given(st.lists(st.tuples(st.sampled_from(TEMPLATES), st.text(max_size=20)), max_size=30))
def test_lines_of_one_template_stand_together_though_all_templates_begin_alike(asked):
    order = sorted(asked, key=lambda each: prefix_key(body(*each)))
    runs = [template for template, _ in groupby(order, key=lambda each: each[0])]
    assert len(runs) == len(set(runs))


def test_tools_come_before_the_messages_and_a_cache_key_before_both():
    plain = prefix_key(body("t", "q"))
    assert prefix_key(body("t", "q", tools=[{"type": "function"}])) != plain
    assert prefix_key(body("t", "q", prompt_cache_key="k")) != plain
    assert prefix_key(body("t", "q", temperature=1)) == plain


def test_whatever_a_request_may_hold_has_a_key():
    assert prefix_key({"input": ["\ud800", 10**30]}) != prefix_key({"input": "a"})
