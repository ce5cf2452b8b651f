"""Estimated counts that come in groups, added up per version and second."""

from __future__ import annotations

from dataclasses import dataclass

from backout.model.signals import Counts, CountsPage


@dataclass(slots=True)
class _Row:
    requests: int = 0
    errors: int = 0
    canceled: int = 0


class Estimates:
    """Groups of invocations, without response times."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str], _Row] = {}

    def add(self, second: int, version: str, number: int, *, errors: int, canceled: bool) -> None:
        """Add a group of invocations; those that the client left are neither requests nor errors."""
        row = self._rows.setdefault((second, version), _Row())
        if canceled:
            row.canceled += number
            return
        row.requests += number
        row.errors += min(errors, number)

    def page(self, settled: int) -> CountsPage:
        """Return the sampled page that is final below `settled`, by second and version."""
        counts = (
            Counts(version, second, row.requests, row.errors, row.canceled)
            for (second, version), row in sorted(self._rows.items())
            if row.requests or row.canceled
        )
        return CountsPage(tuple(counts), settled, sampled=True)
