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
REST_DAYS = 2
"""In `make test-all`: of the long ones that have no family, and of the slow ones."""


def pick_of_other_days(items: Sequence[pytest.Item], tests: Path, *, everything: bool = ALL) -> list[pytest.Item]:
    """Return those that do not run today: in `make test` of the slow ones, in `make test-all` of the long ones, too.

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
    if not is_long and name_function(item, tests) in slow:
        return "slow", REST_DAYS if everything else SLOW_DAYS
    if not everything or not is_long:
        return "", 1
    mark = _find_rotation(item)
    if mark is None:
        return "long", REST_DAYS
    family, days = mark.args
    return str(family), int(days)


def _find_rotation(item: pytest.Item) -> pytest.Mark | None:
    """Return the mark `rotating` of a test, that of its own case before that of its function; None: it has none."""
    case = getattr(item, "callspec", None)
    own = [] if case is None else [mark for mark in case.marks if mark.name == "rotating"]
    return own[0] if own else item.get_closest_marker("rotating")
