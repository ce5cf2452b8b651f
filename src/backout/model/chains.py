"""The versions of a row, write by write, and what the row would be without some of the transactions that wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Image = dict[str, bytes]
"""A version of a row: column by column as COPY writes it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction's write to a row.

    Args:
        lsn: of its COMMIT record. bad: whether it is one that is taken back. place: where the row lay afterwards
            ("(block,line)"), None when it was deleted.
    """

    lsn: int
    bad: bool
    place: str | None


@dataclass(frozen=True, slots=True)
class Stop:
    """A moment at which a version can be read: just before the record at `lsn`, or just after it."""

    lsn: int
    inclusive: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """A row that a bad transaction wrote to, from just before the first bad commit to just after the last one.

    Args:
        node: the file node of its table. first: where it lay at first, None when it was not there. steps: in the order
            of their commits.
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

    def boundaries(self) -> Iterator[tuple[int, Stop, str]]:
        """Yield the versions that have to be read to tell good writes from bad ones: (number, when, where)."""
        for number, (one, other) in enumerate(zip(self.steps, self.steps[1:], strict=False), start=1):
            if one.bad != other.bad and one.place is not None:
                yield number, (Stop(one.lsn, True) if one.bad else Stop(other.lsn, False)), one.place

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


@dataclass(frozen=True, slots=True)
class Bad:
    """Which transactions are followed.

    Args:
        xids: their ids. database, nodes: where they wrote. begin_lsn, end_lsn: of the first and the last COMMIT record.
    """

    xids: frozenset[int]
    database: int
    nodes: frozenset[int]
    begin_lsn: int
    end_lsn: int


@dataclass(frozen=True, slots=True)
class Followed:
    """What was found.

    Args:
        others: file nodes that good transactions wrote to meanwhile. unknown: into which rows were copied whose places
            the WAL does not tell. removed: (file node, place) of rows that good transactions alone wrote, and deleted.
    """

    chains: tuple[Chain, ...]
    others: frozenset[int]
    unknown: frozenset[int]
    removed: tuple[tuple[int, str], ...] = ()
