"""Estimated counts that come in groups, added up per version and second."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.model.signals import Counts, CountsPage

if TYPE_CHECKING:
    from backout.model.answers import AnswerClass


@dataclass(slots=True)
class _Row:
    requests: int = 0
    errors: int = 0
    canceled: int = 0
    classes: dict[AnswerClass, int] = field(default_factory=dict)


class Estimates:
    """Groups of invocations, without response times."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str], _Row] = {}

    def add(  # noqa: PLR0913 - what a group is of
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
        row = self._rows.setdefault((second, version), _Row())
        if canceled:
            row.canceled += number
            return
        row.requests += number
        row.errors += min(errors, number)
        good = number - min(errors, number)
        if answered is not None and good:
            row.classes[answered] = row.classes.get(answered, 0) + good

    def page(self, settled: int) -> CountsPage:
        """Return the sampled page that is final below `settled`, by second and version."""
        counts = (
            Counts(version, second, row.requests, row.errors, row.canceled, classes=row.classes)
            for (second, version), row in sorted(self._rows.items())
            if row.requests or row.canceled
        )
        return CountsPage(tuple(counts), settled, sampled=True)
