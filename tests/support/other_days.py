"""Which tests a run leaves to other days, so that `make test` and `make test-all` keep their time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extent import ALL, is_due

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOW = Path(__file__).with_name("slow.txt")
"""The tests that took two seconds or more in `make test`, made by `tools/list_slow_tests.py`."""
SLOW_DAYS = 3


def pick_of_other_days(items: Sequence[pytest.Item], tests: Path, *, everything: bool = ALL) -> list[pytest.Item]:
    """Return those that do not run today: in `make test-all` of the long ones marked `rotating`, else of the slow ones.

    Args:
        items: in the order in which they were collected, the same on each day.
        tests: the folder from which `slow.txt` names files.
        everything: whether this is `make test-all`.
    """
    slow = frozenset(SLOW.read_text(encoding="utf-8").split())
    before, left = Counter[str](), list[pytest.Item]()
    for item in items:
        family, days = _find_family(item, tests, slow, everything=everything)
        if family and not is_due(before[family], days):
            left.append(item)
        before[family] += 1
    return left


def name_function(item: pytest.Item, tests: Path) -> str:
    """Return how `slow.txt` names a test: its file and its function, whatever the parameters."""
    return f"{item.path.relative_to(tests)}::{item.nodeid.partition('::')[2].partition('[')[0]}"


def _find_family(item: pytest.Item, tests: Path, slow: frozenset[str], *, everything: bool) -> tuple[str, int]:
    """Return which tests take turns with this one and in how many days each comes up; "" if it runs every day."""
    is_long = item.get_closest_marker("long") is not None
    if everything and is_long and (mark := _find_rotation(item)) is not None:
        family, days = mark.args
        return str(family), int(days)
    if not everything and not is_long and name_function(item, tests) in slow:
        return "slow", SLOW_DAYS
    return "", 1


def _find_rotation(item: pytest.Item) -> pytest.Mark | None:
    """Return the mark `rotating` of a test, that of its own case before that of its function; None: it has none."""
    case = getattr(item, "callspec", None)
    own = [] if case is None else [mark for mark in case.marks if mark.name == "rotating"]
    return own[0] if own else item.get_closest_marker("rotating")
