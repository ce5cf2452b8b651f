"""Judges what happened to the rows of a copy, by the sums of its parts; pure.

No row is added under an id that had ended before: more of them in a part, or as many with another sum, are wrong.
Where there are fewer, they were changed or removed since, as often as the server's own statistics show, and are
missing beyond that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping


class Counts(Value, frozen=True):
    """The rows of one table that the copy held.

    Args:
        equal: as it held them.
        unread: in parts where others changed a row since, so that sums prove nothing.
        gone: not there as they were.
        wrong: there, and not held by it like that.
        hashes: of such rows, where one alone came into a part.
        parts: the numbers of the other parts that hold some.
    """

    rows: int
    equal: int
    unread: int
    gone: int
    wrong: int
    hashes: tuple[int, ...]
    parts: tuple[int, ...]

    def missing(self, removed: int) -> int:
        """Return how many of those that are gone were not removed; one that was overwritten is counted as wrong.

        Args:
            removed: how many rows the server says were updated or deleted since.
        """
        return max(0, self.gone - self.wrong - removed)


def judge(noted: Mapping[str, tuple[int, str]], now: Mapping[str, tuple[int, str]]) -> Counts:
    """Compare the parts of a table with those that were noted: {part: (rows, sum of their hashes)}."""
    equal = unread = gone = wrong = 0
    parts, hashes = [], []
    for number in noted.keys() | now.keys():
        (rows, total), (here, sum_here) = noted.get(number, (0, "0")), now.get(number, (0, "0"))
        if (rows, total) == (here, sum_here):
            equal += rows
            continue
        gone += max(0, rows - here)
        more = here - rows if here > rows else int(here == rows)
        if more:
            wrong += more
            one = int(sum_here) - int(total)
            if here == rows + 1 and -(1 << 63) <= one < 1 << 63:
                hashes.append(one)
            else:
                parts.append(int(number))
        unread += min(rows, here) - (1 if here == rows else 0)
    return Counts(
        sum(rows for rows, _ in noted.values()), equal, unread, gone, wrong, tuple(sorted(hashes)), tuple(sorted(parts))
    )
