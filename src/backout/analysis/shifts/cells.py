"""The counts of the baseline by name and minute, read once for everything derived from them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from backout.analysis.shifts.strata import is_much
from backout.analysis.shifts.tally import Tally
from backout.analysis.statistics.baseline import MINUTE_S
from backout.model.guard.routes import OTHER, select_nameless

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backout.model.guard.signals import Counts

_LEAST_MINUTES = 3
_STEADY_S, _ABSENT_S = 10, 5
"""So many seconds in a row have to have requests before and after so many that have none."""
_MOST_NAMES = 512
"""The most names known; a source with more of them has no templates."""


class Cells:
    """Counts of the old version before the deployment.

    Args:
        start: Unix second of the deployment, from which minutes are counted backwards.
    """

    def __init__(self, rows: Iterable[Counts], start: int) -> None:
        found: dict[str, dict[int, Tally]] = {}
        self.whole: dict[int, Tally] = {}
        """All requests, by minute."""
        self.sizes: dict[str, dict[int, int]] = {}
        """{name: {key: bodies}}, see `model.guard.bodies.make_size_key`."""
        first = start
        seconds: set[int] = set()
        for row in rows:
            first = min(first, row.second)
            seconds.add(row.second)
            minute = (row.second - start) // MINUTE_S
            _get_at(self.whole, minute).add(row)
            named = 0
            for name, route in row.routes.items():
                named += route.requests
                if name != OTHER and route.requests:
                    cells = found.get(name)
                    if cells is None:
                        cells = found[name] = {}
                    _get_at(cells, minute).add(route)
                    if route.sizes:
                        self._add_sizes(name, route.sizes.items())
            other = select_nameless(row) if row.routes and (named < row.requests or OTHER in row.routes) else None
            if other is not None and other.requests:
                _get_at(found.setdefault(OTHER, {}), minute).add(other)
        if not _tells(found):
            found.pop(OTHER, None)
        asked = {name: sum(cell.requests for cell in cells.values()) for name, cells in found.items()}
        self.asked = {name: asked[name] for name in sorted(asked, key=lambda each: (-asked[each], each))[:_MOST_NAMES]}
        """How often each known name was asked for, the busiest first."""
        self.by_name = {name: found[name] for name in self.asked}
        self.age_h = (start - first) / 7200
        """The hours from its middle to the deployment."""
        self.span = range((first - start) // MINUTE_S, 0)
        """The minutes that were seen whole, but for a part `unseen` (in minutes).

        That is of the first one where there are few, and while another version was live."""
        self.unseen = -(start - first) % MINUTE_S / MINUTE_S
        if self.unseen and len(self.span) > _LEAST_MINUTES:
            self.span, self.unseen = self.span[1:], 0.0
        absent = (second for gap in find_absences(seconds) for second in gap)
        minutes = ((second - start) // MINUTE_S for second in absent)
        self.unseen += sum(minute in self.whole and minute in self.span for minute in minutes) / MINUTE_S

    def _add_sizes(self, name: str, sizes: Iterable[tuple[int, int]]) -> None:
        known = self.sizes.setdefault(name, {})
        for bucket, number in sizes:
            known[bucket] = known.get(bucket, 0) + number


def find_absences(seconds: Iterable[int]) -> tuple[range, ...]:
    """Return the stretches in which a version was not live, by the seconds in which it answered.

    Such a stretch has no request, where traffic is so steady before and after it that many would have come.

    >>> find_absences([*range(20), *range(30, 50)]), find_absences([*range(3), *range(60, 63)])
    ((range(20, 30),), ())
    """
    runs: list[range] = []
    for second in sorted(seconds):
        if runs and second <= runs[-1].stop:
            runs[-1] = range(runs[-1].start, second + 1)
        else:
            runs.append(range(second, second + 1))
    gaps = ((range(one.stop, other.start), one, other) for one, other in pairwise(runs))
    return tuple(gap for gap, *sides in gaps if len(gap) >= _ABSENT_S and min(map(len, sides)) >= _STEADY_S)


def _tells(found: Mapping[str, Mapping[int, Tally]]) -> bool:
    """Whether what has no route of its own is so much, and so well answered, that it is visitors who ask for it.

    Where it is little, or answered badly as a rule, it is crawlers' guesses: that says nothing of a version.
    """
    if len(found) < 2:
        return False
    asked = {name: sum(cell.requests for cell in cells.values()) for name, cells in found.items()}
    good = sum(cell.good for cell in found.get(OTHER, {}).values())
    return is_much(asked.get(OTHER, 0), good, sum(asked.values()))


def _get_at(minutes: dict[int, Tally], minute: int) -> Tally:
    cell = minutes.get(minute)
    if cell is None:
        cell = minutes[minute] = Tally()
    return cell
