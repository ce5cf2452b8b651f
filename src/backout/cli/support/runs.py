"""A run as the commands about runs find and show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.journal.stored import StoredJournal
    from backout.model.incident.incident import Run


def open_journal(shell: Shell) -> StoredJournal:
    """Return the journal of the configuration."""
    from backout.wiring import records

    return records.open_journal(shell.config())


def find_run(journal: StoredJournal, run: str) -> Run:
    """Return the run of an id, or of the beginning of one. Raises UsageError: there is none, or there are several."""
    found = journal.find(run)
    if found is None:
        raise UsageError(f"no run '{run}'", hint="backout runs list")
    return found
