"""Reads what is new in the journal of some kinds of events, again and again, without walking over the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.incident.incident import Event
    from backout.ports import Journal


class NewEvents:
    """The events of these kinds in one environment; of one thread.

    Each kind has a place of its own up to which it was read: one that is recorded between two of the queries is found
    by the next call, wherever the others stand.

    Args:
        kinds: in the order in which they follow from each other. They are read the other way round, so that whoever
            gets an event has got, or gets with it, those that led to it.
    """

    def __init__(self, journal: Journal, environment: str, kinds: Sequence[str]) -> None:
        self._journal, self._environment = journal, environment
        self._after = dict.fromkeys(kinds, 0)

    def read(self) -> list[Event]:
        """Return those since the last call, in their order. Raises JournalUnavailable."""
        found: list[Event] = []
        for kind, after in reversed(self._after.items()):
            new = list(self._journal.events(environment=self._environment, kind=kind, after=after))
            if new:
                self._after[kind] = new[-1].seq
                found += new
        return sorted(found, key=lambda event: event.seq)
