"""What the errors of the journal's server mean to whoever meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.journal.rows import JournalUnavailable
from backout.ports.journal_link import Trouble

if TYPE_CHECKING:
    from backout.ports.journal_link import LinkError

_MEANINGS: Final = {
    Trouble.NOT_REACHED: ("the journal's server does not answer", "see that it runs and can be reached from here"),
    Trouble.NOT_LET_IN: ("the journal's server does not let this machine in", "check the connection string"),
    Trouble.NO_URL: ("this machine does not have the journal's connection string", ""),
    Trouble.ABSENT: ("the journal is damaged: a table is missing", "backout audit verify"),
    Trouble.DENIED: ("the journal's role lacks a right", "grant it: docs/team.md"),
    Trouble.WAITED: (
        "another process keeps the journal locked, or its server is too slow",
        "type the same command again; the server's pg_stat_activity names who holds it",
    ),
    Trouble.FULL: (
        "the disk of the journal's server is full: the journal could not record, so the run stops here",
        "free some space there, then type the same command again",
    ),
    Trouble.ONLY_READ: (
        "the journal's server takes no writes: it is a standby, or set to read only",
        "let the connection string name the primary (several hosts with target_session_attrs=read-write)",
    ),
    Trouble.NO_VALUE: ("the journal cannot keep a value: it is too large, or no text", ""),
    Trouble.DAMAGED: ("the journal is damaged", "backout audit verify; the server's log says more"),
    Trouble.OTHER: ("the journal cannot be used", "the server's log says more"),
}


def explain(error: LinkError, place: str) -> JournalUnavailable:
    """Return what an error of the journal's server means, and what to do about it."""
    what, hint = _MEANINGS[error.trouble]
    made = JournalUnavailable(f"{what}{quote(error.said)}", where=place, hint=error.hint or hint or None)
    made.is_away = error.trouble is Trouble.NOT_REACHED
    return made


def quote(said: str) -> str:
    """Return the server's words in brackets, "" for none."""
    return f" ({said})" if said else ""
