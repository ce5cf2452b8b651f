"""Parts of a table whose rows are read together by the second check."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backout.providers.postgres.comparison.parts import group_parts

_SUMS = st.dictionaries(st.integers(0, 299), st.tuples(st.integers(0, 5_000), st.just(0), st.just("0")), max_size=300)


@given(st.lists(_SUMS, min_size=1, max_size=3))
def test_every_part_is_read_once_and_few_rows_in_one_pass(sums: list[dict[int, tuple[int, int, str]]]) -> None:
    parts = sorted({part for each in sums for part in each})
    groups = list(group_parts(parts, sums))
    assert [part for together in groups for part in together] == parts
    rows = [sum(each[part][0] for each in sums for part in together if part in each) for together in groups]
    assert all(len(together) <= 64 or held <= 100_000 for together, held in zip(groups, rows, strict=True))
    if sum(rows) <= 100_000:
        assert len(groups) <= 1
