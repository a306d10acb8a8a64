from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.portions import portions


@given(st.lists(st.integers(0, 20)), st.integers(1, 5), st.integers(1, 15))
def test_portions_keep_the_order_and_exceed_no_limit_but_for_one_item_alone(weights, most, most_bytes):
    cut = list(portions(weights, lambda weight: weight, most=most, most_bytes=most_bytes))
    assert [weight for portion in cut for weight in portion] == weights
    assert all(portion for portion in cut)
    assert all(len(portion) <= most for portion in cut)
    assert all(sum(portion) <= most_bytes or len(portion) == 1 for portion in cut)
