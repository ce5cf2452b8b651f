"""How what is typed behind `backout db restore` becomes one TARGET."""

from __future__ import annotations

import pytest

from backout.cli.db.restore import join_target
from backout.errors import UsageError
from backout.model.database.recovery import RestorePoint, TargetKind
from backout.plan.restore import read_target

NOW = 1_800_000_000.0


def test_several_words_are_one_target() -> None:
    """Ids side by side, and a time of two ends."""
    text = join_target(("76652", "76655", "76701"), None, None)
    assert text is not None
    asked = read_target(text, (), NOW)
    assert asked is not None
    assert (asked.kind, asked.ids) == (TargetKind.TRANSACTIONS, {76652, 76655, 76701})
    text = join_target((), "2 hours ago", None)
    assert text is not None
    asked = read_target(text, (), NOW)
    assert asked is not None
    assert (asked.kind, asked.window) == (TargetKind.WINDOW, (NOW - 7200, NOW))
    assert join_target((), None, None) is None


@pytest.mark.parametrize(("words", "since", "until"), [(("5",), "14:00", None), ((), None, "14:00")])
def test_what_is_said_twice_or_in_half_is_refused(words: tuple[str, ...], since: str | None, until: str | None) -> None:
    """Which of two is meant nobody knows."""
    with pytest.raises(UsageError):
        join_target(words, since, until)


def test_a_deployments_time_ends_with_the_next_one() -> None:
    """From the point before it to the first that belongs to another; without a later one there is no end."""

    def point(name: str, lsn: int, why: str, deployment: str) -> RestorePoint:
        return RestorePoint(name, lsn, 1, 1, NOW - 1000 + lsn, why, deployment)

    points = (
        point("a", 10, "before deployment", "aaaa1111"),
        point("b", 20, "after deployment", "aaaa1111"),
        point("c", 30, "on demand", ""),
        point("d", 40, "before deployment", "bbbb2222"),
    )
    asked = read_target("during aaaa1111", points, NOW)
    assert asked is not None
    assert asked.places == (10, 40)
    asked = read_target("during bbbb2222", points, NOW)
    assert asked is not None
    assert asked.places == (40, 1 << 64)
    assert read_target("during cccc3333", points, NOW) is None
