"""The second check in words: it passes only where what had to be compared was."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from backout.model.database.comparison import Comparison, TableComparison
from backout.report.database.comparison import (
    BRANCH_SWAP,
    RESCUE,
    RESCUE_UNDONE,
    SWAP,
    format_comparison,
    get_comparison_code,
    make_comparison_record,
)

BROKEN = TableComparison("public.orders", reason="permission denied", failed=True)


def test_a_table_that_could_not_be_compared_does_not_pass() -> None:
    """Unless the rescue said itself that it leaves it alone; where all tables are like that, that alone is said."""
    fine = TableComparison("public.carts", rows=3, equal=3)
    found = make_comparison_record(Comparison((BROKEN,)), ())
    assert found.to_json() == {"failed": "table public.orders could not be compared: permission denied"}
    assert format_comparison(found) == [f"NOT CHECKED by other means: {found.failed}"]
    assert get_comparison_code(found) == 7
    assert not make_comparison_record(Comparison((fine, BROKEN)), {"public.orders"}).failed


@pytest.mark.parametrize("of", [RESCUE, RESCUE_UNDONE, SWAP, BRANCH_SWAP])
def test_beside_a_table_that_could_not_be_compared_the_others_are_said(of: str) -> None:
    """What was compared, and then what was not; what differs decides the exit code."""
    fine = TableComparison("public.carts", rows=3, equal=3)
    found = make_comparison_record(Comparison((fine, BROKEN)), (), of=of)
    assert found.to_json()["equal"] == 3
    sentence, unchecked = format_comparison(found)
    assert "3 rows of 1 tables" in sentence
    assert unchecked == "NOT CHECKED by other means: table public.orders could not be compared: permission denied"
    assert get_comparison_code(found) == 7
    wrong = make_comparison_record(Comparison((replace(fine, equal=2, wrong=1), BROKEN)), (), of=of)
    assert wrong.failed == found.failed
    assert get_comparison_code(wrong) == 1
