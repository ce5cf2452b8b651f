"""The content of a database in the dumped snapshot, and of its restore, read in the process of the check.

Nothing here relies on pg_dump or pg_restore: rows are hashed by table, definitions are read from the catalogs.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from backout.model.database.dump import DumpCheck, Figures, TableContent
from backout.providers.postgres.backup.dump_contents import read_contents, read_copy_contents
from backout.providers.postgres.comparison.dump_queries import (
    DEFINITIONS,
    LARGE_OBJECTS,
    LO_CLOSE,
    LO_HASH,
    LO_OPEN,
    LO_SIZE,
    OWNERS,
    PRIVILEGES,
    SEQUENCES,
)
from backout.providers.postgres.schema.quoting import quote_literal
from backout.providers.postgres.server.message import get_message
from backout.providers.postgres.server.pinned import write_pins
from backout.providers.postgres.server.session import open_asking
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg

_MAJOR: Final = 10_000
_PATIENCE: Final = {"lock_timeout": "'30s'", "client_connection_check_interval": "'1s'"}
"""As long as pg_dump waits for a table; a session that waits for one ends with the process that asked."""
_LATE: Final = ("extension ",)
"""Of these a new database may bring more than the dump had."""


def note_dumped(
    url: str, snapshot: str, progress: Callable[[str, int, int], None]
) -> tuple[list[TableContent], Figures]:
    """Return the tables of a snapshot that another session has exported, and what else is in it.

    Raises:
        ProviderUnavailable, AuthError: the server does not answer, or refuses the login.
    """
    import psycopg

    try:
        with _looking(url, snapshot) as session:
            progress("hashing rows", 0, 1)
            tables = read_contents(session, checksums=True)
            session.execute(write_pins(_PATIENCE).encode())
            lobs, not_noted = _read_large_objects(session)
            figures = Figures(
                server_version=session.info.server_version,
                definitions=read_definitions(session),
                sequences=_read_sequences(session),
                large_objects=lobs,
                owners=_read_statements(session, OWNERS),
                privileges=_read_statements(session, PRIVILEGES),
                not_noted=not_noted,
            )
            return [*tables], figures
    except (psycopg.Error, UnicodeError) as error:
        raise make_connection_error(error, url, "the database") from None  # its text may quote the connection string


def compare_rows(
    url: str, tables: Sequence[TableContent], figures: Figures, progress: Callable[[str, int, int], None]
) -> DumpCheck:
    """Compare rows and large objects of a restored database, as its owner. Raises AuthError, ProviderUnavailable."""
    import psycopg

    progress("hashing rows", 0, 1)
    try:
        found = read_copy_contents(url, tables)
        with _looking(url) as session:
            lobs, not_read = _read_large_objects(session)
    except (psycopg.Error, UnicodeError) as error:
        raise make_connection_error(error, url, "the restored database") from None
    differs = _compare_tables({table.name: table for table in tables}, {table.name: table for table in found})
    if not (figures.not_noted or not_read):
        differs += _compare_kind("large object ", figures.large_objects, lobs)
    return DumpCheck(
        tables=len(tables),
        rows=sum(table.rows for table in tables),
        large_objects=len(figures.large_objects),
        differs=tuple(differs),
        not_compared=tuple(dict.fromkeys((*figures.not_noted, *not_read))),
    )


def compare_catalog(url: str, figures: Figures) -> DumpCheck:
    """Compare definitions and sequences, and say which owners and privileges are not as they were.

    It reads only catalogs and sequences, which runs no code of the application. Raises AuthError, ProviderUnavailable.
    """
    import psycopg

    try:
        with _looking(url) as session:
            version = session.info.server_version
            same = version // _MAJOR == figures.server_version // _MAJOR
            definitions = read_definitions(session) if same else {}
            sequences = _read_sequences(session)
            held = {*_read_statements(session, OWNERS), *_read_statements(session, PRIVILEGES)}
    except (psycopg.Error, UnicodeError) as error:
        raise make_connection_error(error, url, "the restored database") from None
    differs = _compare_kind("", figures.definitions, definitions) if same else []
    differs += _list_behind(figures.sequences, sequences)
    written = f"server {figures.server_version // _MAJOR} writes them differently from {version // _MAJOR}"
    return DumpCheck(
        definitions=len(figures.definitions) if same else 0,
        sequences=len(figures.sequences),
        differs=tuple(differs),
        not_compared=() if same else (f"definitions: {written}",),
        not_restored=tuple(each for each in (*figures.owners, *figures.privileges) if each not in held),
    )


@contextmanager
def _looking(url: str, snapshot: str = "") -> Iterator[psycopg.Connection[Any]]:
    with open_asking(url) as session, session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if snapshot:
            session.execute(f"SET TRANSACTION SNAPSHOT {quote_literal(snapshot)}".encode())
        session.execute(write_pins(_PATIENCE).encode())
        yield session


def read_definitions(session: psycopg.Connection[Any]) -> dict[str, str]:
    """Return a digest of each definition by its name; several of one name (overloads differ by it) are one."""
    found: dict[str, list[str]] = {}
    for query in DEFINITIONS:
        for name, text in session.execute(query.encode()):
            if name is not None:
                found.setdefault(str(name), []).append(str(text))
    return {name: _compute_digest("\0".join(sorted(texts))) for name, texts in sorted(found.items())}


def _compute_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_sequences(session: psycopg.Connection[Any]) -> dict[str, tuple[int | None, int, bool]]:
    """Return (the last value that was handed out, increment, whether it cycles) of each."""
    return {str(name): (last, step, cycles) for name, last, step, cycles in session.execute(SEQUENCES.encode())}


def _read_large_objects(session: psycopg.Connection[Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return size and digest of each large object by its id, and why there are none of them."""
    import psycopg

    found: dict[str, str] = {}
    try:
        with session.transaction():
            for (oid,) in session.execute(LARGE_OBJECTS.encode()).fetchall():
                (handle,) = session.execute(LO_OPEN, (oid,)).fetchone() or (0,)
                (size,) = session.execute(LO_SIZE, (handle,)).fetchone() or (0,)
                session.execute(LO_CLOSE, (handle,))
                (digest,) = session.execute(LO_HASH.encode(), {"oid": oid, "size": size}).fetchone() or ("",)
                found[str(oid)] = f"{size} {digest}"
    except psycopg.Error as error:
        return {}, (f"large objects: {get_message(error)}",)
    return found, ()


def _read_statements(session: psycopg.Connection[Any], queries: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({str(text) for query in queries for (text,) in session.execute(query.encode())}))


def _compare_tables(noted: dict[str, TableContent], found: dict[str, TableContent]) -> list[str]:
    said = [f"table {name} is missing" for name in noted if name not in found]
    for name, here in found.items():
        then = noted.get(name)
        if then is None:
            said.append(f"table {name} was not in it")
        elif (then.rows, then.checksum) != (here.rows, here.checksum):
            same = f"other content in its {here.rows:,} rows"
            said.append(
                f"table {name} has {same if here.rows == then.rows else f'{here.rows:,} rows, not {then.rows:,}'}"
            )
    return said


def _compare_kind(kind: str, noted: dict[str, str], found: dict[str, str]) -> list[str]:
    said = [f"{kind}{name} is missing" for name in noted if name not in found]
    said += [f"{kind}{name} is another one" for name, what in noted.items() if found.get(name, what) != what]
    more = (name for name in found if name not in noted and not name.startswith(_LATE))
    return said + [f"{kind}{name} was not in it" for name in more]


def _list_behind(
    noted: dict[str, tuple[int | None, int, bool]], found: dict[str, tuple[int | None, int, bool]]
) -> list[str]:
    """Return the sequences that would hand out again what they had handed out when they were noted."""
    said = []
    for name, (last, step, cycles) in noted.items():
        if cycles or last is None or name not in found:  # that one is missing is among the definitions
            continue
        here = found[name][0]
        if here is None or (here - last) * step < 0:
            said.append(f"sequence {name} stands at {'its start' if here is None else here}, and stood at {last}")
    return said
