"""The index of literals finds exactly what looking for each of them finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.diagnosis.literals import LiteralIndex

WORDS = st.text("abc é", min_size=1, max_size=7)


@given(st.lists(st.tuples(WORDS, st.integers(0, 9)), max_size=20), st.text("abc é", max_size=60))
def test_it_finds_what_each_literal_alone_would(literals: list[tuple[str, int]], text: str) -> None:
    assert LiteralIndex(literals).find(text) == {thing for literal, thing in literals if literal in text}
