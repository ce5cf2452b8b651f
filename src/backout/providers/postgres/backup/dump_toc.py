"""Every definition of a database as pg_dump knows it: the table of contents of an archive, parsed.

pg_dump knows each class of objects, including those of future versions, with their owner, privileges and comment,
in an order in which they can be created. Its text could contain anything, since it includes function bodies; in
the archive each entry has its length, so that one entry's text cannot become another's statement.

Source: PostgreSQL 18, src/bin/pg_dump/pg_backup_archiver.c (ReadHead, ReadToc, ReadStr, ReadInt), pg_backup_custom.c
(_ReadExtraToc), pg_backup_archiver.h (K_VERS_*, of the archives of 12 to 18).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.model.value import Value
from backout.providers.child_environment import make_bare_environment
from backout.providers.postgres.server.template import run_tool
from backout.providers.postgres.tls.routes import open_program_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.providers.postgres.server.binaries import Binaries

Key = tuple[str, str, str]
"""(kind, schema, name) such as ("CONSTRAINT", "public", "users users_pkey"); unique in a database."""

_OLDEST: Final = (1, 14)
_NEWEST: Final = (1, 16)
_ALGORITHM_SINCE: Final = (1, 15)
_KIND_OF_RELATION_SINCE: Final = (1, 16)
_POST_DATA: Final = 4
_SETTINGS: Final = frozenset(
    {"ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES", "DUMP TIMESTAMP"}
)


class Definition(Value, frozen=True):
    """One object, or an entry that belongs to one.

    Args:
        kind: as pg_dump calls it: TABLE, VIEW, FK CONSTRAINT, ACL, COMMENT, ...
        catalog, oid: of its row in the system catalogs, 0 where it has none of its own.
        create, drop: SQL, "" when there is none.
        late: it is created after the rows.
    """

    kind: str
    schema: str
    name: str
    owner: str
    create: str
    drop: str
    catalog: int
    oid: int
    late: bool

    @property
    def key(self) -> Key:
        """What it is known by, in every copy of the database."""
        return self.kind, self.schema, self.name

    @property
    def shown(self) -> str:
        """What a person calls it."""
        return f"{self.kind.lower()} {self.schema + '.' if self.schema else ''}{self.name}"

    @property
    def lines(self) -> tuple[str, ...]:
        """Its text without the order of its lines: columns that came back stand last."""
        return tuple(sorted(line.strip().rstrip(",") for line in self.create.splitlines()))


def list_definitions(
    dsn: str, database: str, binaries: Binaries, *, without: Sequence[str] = (), lock_timeout_s: float = 10.0
) -> dict[Key, Definition]:
    """Return every definition of a database, in an order in which they can be made.

    Args:
        dsn: the connection string, which is in the program's environment alone.
        without: tables, as SQL, that the role may not read: pg_dump locks what it describes.

    Raises:
        BackoutError: pg_dump's words.
    """
    with open_program_environment(dsn, has_tls=binaries.has_tls()) as reaching, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "definitions"
        options = (
            "--format=custom",
            "--schema-only",
            "--encoding=UTF8",
            "--no-password",
            f"--lock-wait-timeout={round(lock_timeout_s * 1000)}",
            f"--file={file}",
            *(f"--exclude-table={name}" for name in without),
        )
        run_tool(binaries, "pg_dump", *options, environment=make_bare_environment({**reaching, "PGDATABASE": database}))
        return read_definitions(file.read_bytes())


def read_definitions(archive: bytes) -> dict[Key, Definition]:
    """Return the definitions in an archive of pg_dump's custom format. Raises BackoutError: it is another one."""
    reader = _Reader(archive)
    if reader.bytes(5) != b"PGDMP":
        raise BackoutError("pg_dump wrote no archive of its custom format")
    version = reader.byte(), reader.byte()
    reader.byte()
    if not _OLDEST <= version <= _NEWEST:
        raise BackoutError(f"pg_dump wrote an archive of version {version[0]}.{version[1]}, which is not known here")
    reader.size = reader.byte()
    offset = reader.byte()
    reader.byte()
    if version >= _ALGORITHM_SINCE:
        reader.byte()
    else:
        reader.int()
    for _ in range(7):  # when it was written
        reader.int()
    for _ in range(3):  # database, server, pg_dump
        reader.text()
    found: dict[Key, Definition] = {}
    for _ in range(reader.int()):
        made = _read_entry(reader, version, offset)
        if made.kind not in _SETTINGS:
            found[made.key] = made
    return found


def _read_entry(reader: _Reader, version: tuple[int, int], offset: int) -> Definition:
    reader.int(), reader.int()  # its number, and whether rows belong to it
    catalog, oid, name, kind = (reader.text() for _ in range(4))
    section = reader.int()
    create, drop, _copy, schema, _tablespace, _method = (reader.text() for _ in range(6))
    if version >= _KIND_OF_RELATION_SINCE:
        reader.int()
    owner = reader.text()
    reader.text()  # oids of rows, of long ago
    while reader.optional() is not None:  # what it depends on
        pass
    reader.bytes(1 + offset)  # where its rows are
    return Definition(
        kind, schema, name, owner, create.strip(), drop.strip(), int(catalog or 0), int(oid or 0), section == _POST_DATA
    )


class _Reader:
    """The pieces of an archive: a sign and little-endian bytes for an integer, a length before each text."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self.size = 4

    def bytes(self, count: int) -> bytes:
        """Return the next bytes. Raises BackoutError: there are fewer."""
        found = self._content[self._at : self._at + count]
        if len(found) != count:
            raise BackoutError("pg_dump's archive ends too early")
        self._at += count
        return found

    def byte(self) -> int:
        """Return the next byte."""
        return self.bytes(1)[0]

    def int(self) -> int:
        """Return the next integer."""
        sign = self.byte()
        value = int.from_bytes(self.bytes(self.size), "little")
        return -value if sign else value

    def optional(self) -> str | None:
        """Return the next text, None where there is none."""
        length = self.int()
        return None if length < 0 else self.bytes(length).decode(errors="surrogateescape")

    def text(self) -> str:
        """Return the next text, "" where there is none."""
        return self.optional() or ""
