"""Inspect the journal on a server: nothing is made, and nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.journal import postgres_schema as schema
from backout.journal.rows import JournalUnavailable
from backout.journal.store import read_head
from backout.model.checkup import JournalLook

if TYPE_CHECKING:
    from backout.journal.postgres_store import PostgresStore

_MAY_WRITE: Final = (
    "SELECT has_any_column_privilege('backout.event', 'INSERT') AND has_any_column_privilege('backout.head', 'UPDATE')"
    " AND has_table_privilege('backout.lease', 'INSERT') AND has_table_privilege('backout.lease', 'UPDATE')"
    " AND has_table_privilege('backout.counts', 'DELETE'),"
    " pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"
)


def look_at_server(store: PostgresStore) -> JournalLook:
    """Return the state of the journal on a server: never raises, and waits no longer than the store does."""
    place, known = store.place, schema.VERSION
    try:
        with store.reading() as connection:
            if connection is None:
                return JournalLook(place, exists=False, known=known, on_server=True)
            events = read_head(connection)[0]
            may, frozen = connection.execute(_MAY_WRITE).fetchone()
        append_only = store.is_append_only()
    except JournalUnavailable as error:
        what = str(error.what)
        return JournalLook(
            place, exists=True, problem=what, hint=error.hint or "", known=known, refused=what, on_server=True
        )
    refused = "its role lacks rights to write it" if not may else "the server takes no writes" if frozen else ""
    return JournalLook(
        place,
        exists=True,
        hint="the rights that it needs: docs/team.md" if not may else "",
        version=known,
        known=known,
        events=events,
        refused=refused,
        on_server=True,
        append_only=append_only,
    )
