"""The second check in words: it passes only where what had to be compared was."""

from __future__ import annotations

from backout.model.database.comparison import Comparison, TableComparison
from backout.report.database.comparison import format_comparison, make_comparison_record

BROKEN = TableComparison("public.orders", reason="permission denied", failed=True)


def test_a_table_that_could_not_be_compared_does_not_pass() -> None:
    """Unless the rescue said itself that it leaves it alone; what differs is said before that."""
    fine = TableComparison("public.carts", rows=3, equal=3)
    found = make_comparison_record(Comparison((fine, BROKEN)), ())
    assert found.to_json() == {"failed": "table public.orders could not be compared: permission denied"}
    assert format_comparison(found) == [f"NOT CHECKED by other means: {found.failed}"]
    assert not make_comparison_record(Comparison((fine, BROKEN)), {"public.orders"}).failed
    wrong = TableComparison("public.carts", rows=3, equal=2, wrong=1)
    assert not make_comparison_record(Comparison((wrong, BROKEN)), ()).failed
