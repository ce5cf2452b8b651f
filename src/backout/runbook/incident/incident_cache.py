"""The incidents of all environments, listed again and again: what was read once is not read a second time.

So a list takes as long with the runs of years as with those of yesterday, but the first one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backout.runbook.incident.records import IncidentHistory

if TYPE_CHECKING:
    from backout.model.incident.incident import Event
    from backout.model.incident.record import IncidentRecord
    from backout.ports import NumberedJournal, Runs


class IncidentCache:
    """The incidents of each environment that was asked about; for several threads."""

    def __init__(self, journal: NumberedJournal, runs: Runs) -> None:
        self._journal, self._runs = journal, runs
        self._lock = threading.Lock()
        self._last: Event | None = None
        self._known: dict[str, IncidentHistory] = {}

    def list_incidents(self, environment: str) -> tuple[IncidentRecord, ...]:
        """Return the incidents of an environment, newest first. Raises BackoutError: the journal cannot be read."""
        with self._lock:
            self._catch_up()
            found = self._known.get(environment)
            if found is None:
                found = self._known[environment] = IncidentHistory(self._journal, self._runs, environment)
            return found.list_incidents()

    def _catch_up(self) -> None:
        """Take in what was recorded since the last time; all is read anew where the journal lost what was read."""
        last = self._last
        if last is not None:
            events = self._journal.events(after=last.seq - 1)
            first = next(events, None)
            if first is not None and first.hash == last.hash:
                for event in events:
                    self._take(event)
                return
        self._known.clear()
        newest = self._journal.find_newest()
        self._last = next(self._journal.events(after=newest - 1), None)

    def _take(self, event: Event) -> None:
        for name in [name for name, each in self._known.items() if not each.take(event)]:
            del self._known[name]
        self._last = event
