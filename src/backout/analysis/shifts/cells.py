"""The baseline as it was counted, by name and minute: read once, for all that is learnt from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.baseline import MINUTE_S
from backout.analysis.shifts.tally import Tally
from backout.model.routes import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.signals import Counts

_LEAST_MINUTES = 3
_MOST_NAMES = 512
"""So many names are known; a source that has more of them has no templates."""


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
        """{name: {bucket: bodies}}, see `size_bucket`."""
        first = start
        for row in rows:
            first = min(first, row.second)
            minute = (row.second - start) // MINUTE_S
            _at(self.whole, minute).add(row)
            for name, route in row.routes.items():
                if name != OTHER and route.requests:
                    _at(found.setdefault(name, {}), minute).add(route)
                    if route.sizes:
                        self._add_sizes(name, route.sizes.items())
        asked = {name: sum(cell.requests for cell in cells.values()) for name, cells in found.items()}
        self.asked = {name: asked[name] for name in sorted(asked, key=lambda each: (-asked[each], each))[:_MOST_NAMES]}
        """How often each known name was asked for, the busiest first."""
        self.by_name = {name: found[name] for name in self.asked}
        self.age_h = (start - first) / 7200
        """By so many hours its middle is older than the deployment."""
        self.span = range((first - start) // MINUTE_S, 0)
        """The minutes that were seen whole."""
        if (start - first) % MINUTE_S and len(self.span) > _LEAST_MINUTES:
            self.span = self.span[1:]

    def _add_sizes(self, name: str, sizes: Iterable[tuple[int, int]]) -> None:
        known = self.sizes.setdefault(name, {})
        for bucket, number in sizes:
            known[bucket] = known.get(bucket, 0) + number


def _at(minutes: dict[int, Tally], minute: int) -> Tally:
    cell = minutes.get(minute)
    if cell is None:
        cell = minutes[minute] = Tally()
    return cell
