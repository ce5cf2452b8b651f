"""The versions of a row, write by write, and what the row would be without some of its transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Image = dict[str, bytes]
"""A version of a row: column by column as COPY writes it."""


class Step(Value, frozen=True):
    """One transaction's write to a row.

    Args:
        lsn: of its COMMIT record.
        bad: whether it is to be undone.
        place: the row's position afterwards ("(block,line)"), None when it was deleted.
    """

    lsn: int
    bad: bool
    place: str | None


class Stay(Value, frozen=True):
    """The span in which a version is visible: from just after the COMMIT record at `begin` until that at `end`."""

    begin: int
    end: int


def choose_moments(stays: Iterable[Stay]) -> list[int]:
    """Return the fewest COMMIT records just behind which every version can be read, in the order of the WAL.

    >>> choose_moments([Stay(1, 9), Stay(2, 4), Stay(3, 5), Stay(6, 7)])
    [3, 6]
    """
    found: list[int] = []
    for stay in sorted(set(stays), key=lambda each: each.begin, reverse=True):
        if not found or found[-1] >= stay.end:
            found.append(stay.begin)
    return found[::-1]


class Chain(Value, frozen=True):
    """A row that a bad transaction wrote to, from just before the first bad commit to just after the last one.

    Args:
        node: the file node of its table.
        first: its first position, None when it did not exist.
        steps: in commit order.
    """

    node: int
    first: str | None
    steps: tuple[Step, ...]

    @property
    def last(self) -> str | None:
        """Where it lay in the end, None when it was gone."""
        return self.steps[-1].place

    @property
    def mixed(self) -> bool:
        """Whether a good transaction wrote it behind a bad one, or between two."""
        return not all(step.bad for step in self.steps[self._first_bad() :]) or not self.steps[0].bad

    def boundaries(self) -> Iterator[tuple[int, Stay, str]]:
        """Yield the versions that have to be read to tell good writes from bad ones: (number, how long, where)."""
        for number, (one, other) in enumerate(zip(self.steps, self.steps[1:], strict=False), start=1):
            if one.bad != other.bad and one.place is not None:
                yield number, Stay(one.lsn, other.lsn), one.place

    def without_bad(self, image: Callable[[int], Mapping[str, bytes] | None]) -> Image | None:
        """Return what the row would be in the end if only the good transactions had written it, None: not there.

        Args:
            image: returns a version by its number: 0 the first one, then one for each step; those of `boundaries`.
        """
        start = image(0)
        ideal = dict(start) if start is not None else None
        for begin, end in self._good_runs():
            was, became = image(begin), image(end)
            if became is None:
                ideal = None
            elif was is None or ideal is None:
                ideal = dict(became)
            else:
                ideal |= {name: value for name, value in became.items() if was.get(name) != value}
        return ideal

    def _good_runs(self) -> Iterator[tuple[int, int]]:
        """Yield the versions before and after each run of good writes."""
        begin = None
        for number, step in enumerate(self.steps):
            if not step.bad and begin is None:
                begin = number
            if begin is not None and (step.bad or number == len(self.steps) - 1):
                yield begin, number if step.bad else number + 1
                begin = None

    def _first_bad(self) -> int:
        return next(number for number, step in enumerate(self.steps) if step.bad)


class Bad(Value, frozen=True):
    """The transactions to follow.

    Args:
        xids: their ids.
        database, nodes: the database and file nodes that they wrote to.
        begin_lsn, end_lsn: of the first and the last COMMIT record.
    """

    xids: frozenset[int]
    database: int
    nodes: frozenset[int]
    begin_lsn: int
    end_lsn: int


class Followed(Value, frozen=True):
    """The chains that were found.

    Args:
        others: file nodes that good transactions wrote to meanwhile.
        unknown: those into which rows were copied at positions that the WAL does not show.
        removed: (file node, place) of rows that only good transactions wrote and deleted.
    """

    chains: tuple[Chain, ...]
    others: frozenset[int]
    unknown: frozenset[int]
    removed: tuple[tuple[int, str], ...] = ()
