"""Makes the journal's tables on a Postgres server, or brings them to the version that this backout knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.journal import postgres_schema as schema
from backout.journal.postgres_errors import quote
from backout.journal.rows import JournalUnavailable
from backout.ports.journal_link import LinkError, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports.journal_link import JournalLink

_MAKING: Final = "SELECT pg_advisory_xact_lock(7306357456645743973)"
"""A lock of the transaction's own, of whoever makes or migrates the tables; the number is ours alone."""
_TABLES: Final = "SELECT count(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = ?)"
# Read as rows: `to_regclass` may answer from before a lock that was waited for.
_HAS_VERSION: Final = (
    "SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = 'backout' AND c.relname = 'schema_version')"
)


def make_tables(link: JournalLink, before_making: Callable[[], None]) -> None:
    """Make the tables or migrate them; several processes may try at once.

    Args:
        before_making: called before they are made in a database that has none; refuses by raising.

    Raises:
        JournalUnavailable: the schema is another program's, or the role may not make it.
        LinkError: the server did not do it.
    """
    try:
        (known,) = link.begin(_HAS_VERSION)
        link.rollback()  # what is asked next may take longer than a transaction may be silent
        if not known:
            before_making()
        link.begin(_MAKING)
        (known,) = link.execute(_HAS_VERSION).fetchone()
        if not known:
            (foreign,) = link.execute(_TABLES, (schema.SCHEMA,)).fetchone()
            if foreign:
                raise JournalUnavailable(
                    f"the schema {schema.SCHEMA} of the database is another program's; nothing was changed",
                    where=link.place,
                    hint="make a database of its own for the journal",
                )
            for statement in schema.FOUNDATION:
                link.execute(statement)
        (version,) = link.execute("SELECT COALESCE(max(version), 0) FROM backout.schema_version").fetchone()
        for number in range(version, schema.VERSION):
            for statement in schema.MIGRATIONS[number]:
                link.execute(statement)
            made = "INSERT INTO backout.schema_version VALUES (?, extract(epoch FROM clock_timestamp()))"
            link.execute(made, (number + 1,))
        link.commit()
    except LinkError as error:
        if error.trouble is Trouble.DENIED:
            raise JournalUnavailable(
                f"the journal's role may not make its tables{quote(error.said)}",
                where=link.place,
                hint="have its owner type a command once, with a role that may create in the database; see"
                " docs/team.md",
            ) from error
        raise
    finally:
        link.rollback()
