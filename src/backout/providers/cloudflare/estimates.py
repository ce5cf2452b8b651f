"""Counts that come in groups, added up per version and second; most such sources estimate them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from backout.model.guard.routes import MOST_ROUTES, OTHER
from backout.model.guard.signals import CountsPage
from backout.providers.tally import RowSum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.guard.answers import AnswerClass


class Estimates:
    """Groups of invocations, without response times."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str], RowSum] = {}

    def add(
        self,
        second: int,
        version: str,
        number: int,
        *,
        errors: int,
        canceled: bool,
        answered: AnswerClass | None = None,
    ) -> None:
        """Add a group of invocations; those that the client left are neither requests nor errors.

        Args:
            answered: the class of those that were no errors, None for good ones, or where that is not known.
        """
        row = self._rows.setdefault((second, version), RowSum())
        if canceled:
            row.canceled += number
            return
        row.add(number, min(errors, number), {})
        row.add_class(answered, number - min(errors, number))

    def add_route(
        self, second: int, version: str, name: str, number: int, *, errors: int, answered: AnswerClass | None = None
    ) -> None:
        """Add to the route of that name; only where the invocations themselves were counted."""
        row = self._rows.get((second, version))
        if row is None or not row.requests:
            return
        route = row.route(name if name in row.routes or len(row.routes) < MOST_ROUTES else OTHER)
        route.add(number, min(errors, number), {})
        route.add_class(answered, number - min(errors, number))

    def add_trigger(self, second: int, version: str, name: str, runs: int, *, failed: int) -> None:
        """Add runs of a schedule or a queue."""
        self._rows.setdefault((second, version), RowSum()).add_trigger(name, runs, min(failed, runs))

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added."""
        return not self._rows

    def page(
        self, settled: int, *, sampled: bool = True, unreadable: Mapping[str, int] = MappingProxyType({})
    ) -> CountsPage:
        """Return the page that is final below `settled`, by second and version; the others as of a page."""
        counts = (row.as_counts(version, second) for (second, version), row in sorted(self._rows.items()))
        return CountsPage(
            tuple(each for each in counts if not each.is_empty), settled, sampled=sampled, unreadable=unreadable
        )
