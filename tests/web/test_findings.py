"""What a step found is told in words, whatever another version of backout has kept of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.model.database.rescue import LeftOut, RescueReport, TableRescue
from backout.model.steps.comparison import ComparisonResult, TableDiffers
from backout.web.findings import list_findings, tell_preview

RESCUE = RescueReport(
    ("index public.users_email",),
    (
        TableRescue("public.users", updated=1200, conflicts=2, examples=("7", "9")),
        TableRescue("public.jobs", left="it has no key"),
        TableRescue("public.logs"),
    ),
    left_out=(LeftOut("NOT NULL of public.users.email", "rows are empty"),),
)
COMPARED = ComparisonResult(
    sentence="3 tables hold what they held", differs=(TableDiffers(table="public.users", missing=2, examples=("7",)),)
)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            msgspec.to_builtins(RESCUE),
            [
                "definition of index public.users_email restored",
                "public.users: 1,200 rows given back",
                "public.users: 2 rows stay, as others have changed them since: key 7, 9",
                "public.jobs: left alone: it has no key",
                "public.logs: nothing to do",
                "not repaired: NOT NULL of public.users.email: rows are empty",
            ],
        ),
        ({"checked": ["7 objects are as planned"]}, ["7 objects are as planned"]),
        ({"verified": True, "summary": "health 200"}, ["health 200"]),
        ({"why": "no session for 5 s", "at": 7}, ["no session for 5 s"]),
        ({"why": ""}, []),
        ({"sentence": 7}, []),
        (None, []),
    ],
)
def test_findings(result: Any, words: list[str]) -> None:
    assert list_findings(result) == words


def test_a_second_check_is_told_with_what_differs() -> None:
    told = list_findings(msgspec.to_builtins(COMPARED))
    assert told[0].startswith("second check: 3 tables hold")
    assert any("public.users" in each and "2 rows" in each and each.endswith(": 7") for each in told[1:])


KEYS = st.sampled_from(["checked", "summary", "why", "sentence", "tables", "definitions"])
ANY = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers() | st.text(max_size=3), max_size=2)


@given(result=ANY | st.dictionaries(KEYS, ANY))
def test_whatever_was_kept_is_no_mistake(result: Any) -> None:
    assert all(isinstance(each, str) for each in list_findings(result))


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (
            RESCUE,
            "In public.users it would set 1,200 rows back as before the damage, and insert or delete none",
        ),
        (RescueReport(("index a",), ()), "It would write no row, and make definitions again"),
        (
            RescueReport((), (TableRescue("a", conflicts=1),)),
            "It would write NOTHING: 1 row of the damage was changed again since",
        ),
        (RescueReport((), ()), "It would write NOTHING"),
        (
            RescueReport((), tuple(TableRescue(name, inserted=1) for name in "abcd")),
            "In a, b, c, … it would set 0 rows back as before the damage, insert 4 and delete 0",
        ),
    ],
)
def test_what_a_rescue_would_write_is_one_sentence(report: RescueReport, words: str) -> None:
    assert tell_preview(report) == words
