"""Which dumps go, when one is due, and what differs: the rules, on values."""

from __future__ import annotations

from values import replace

from backout.analysis.recovery.dumps import (
    find_expired,
    find_newest_verified,
    find_window,
    is_due,
    list_differences,
    summarize,
)
from backout.model.database.capability import Window
from backout.model.database.dump import Dump, TableContent

ONE = Dump("a", 100.0, 110.0, "shop", 180006, 5, "x", (TableContent("public.t", 3, "7"),), verified_at=120.0)
TWO = replace(ONE, id="b", began_at=200.0, ended_at=210.0, verified_at=220.0)
BROKEN = replace(ONE, id="c", began_at=300.0, ended_at=310.0, verified_at=None, problem="x")


def test_old_dumps_go_but_never_the_newest_proven_one() -> None:
    """A newer one that could not be proven does not take its place."""
    later = (
        replace(BROKEN, id="d", began_at=400.0, ended_at=410.0),
        replace(BROKEN, id="e", began_at=500.0, ended_at=510.0),
    )
    assert find_expired((ONE, TWO, BROKEN, *later), 520.0, 90.0) == (ONE, BROKEN)
    assert find_expired((ONE, TWO, BROKEN, *later), 520.0, 250.0) == (ONE,)
    assert find_expired((ONE, TWO, BROKEN, *later), 1e9, 90.0) == (
        ONE,
        BROKEN,
    )  # a clock that is wrong makes nothing older
    assert find_expired((BROKEN,), 1000.0, 5000.0) == ()
    assert find_newest_verified((ONE, BROKEN)) is ONE


def test_one_is_due_when_the_newest_proven_one_is_old_enough() -> None:
    assert is_due((), 0.0, 60.0)
    assert is_due((BROKEN,), 310.0, 60.0)
    assert not is_due((TWO,), 259.0, 60.0)
    assert is_due((TWO,), 260.0, 60.0)


def test_the_window_is_that_of_the_proven_ones() -> None:
    assert find_window((ONE, TWO, BROKEN)) == Window(2, 100.0, 200.0)
    assert find_window((BROKEN,)) == Window()


def test_what_differs_is_named() -> None:
    wanted = (TableContent("a", 1), TableContent("b", 2), TableContent("c", 3, "9"), TableContent("d", 4, "9"))
    found = (TableContent("b", 1), TableContent("c", 3, "8"), TableContent("d", 4), TableContent("more", 1))
    said = list_differences(wanted, found)
    assert said == ("a is missing", "b has 1 rows instead of 2", "c has the same 3 rows with other content")
    assert summarize(()) == ""
