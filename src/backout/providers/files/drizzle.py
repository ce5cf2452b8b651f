"""Port MigrationFiles: the files of drizzle-kit, as Drizzle's own migrator reads them.

Up to 0.x, `meta/_journal.json` lists them (`tag`, `when` in milliseconds), beside them `TAG.sql`; the migrator runs
those whose `when` is later than the newest row's, and passes over the others. From 1.0 on it is a folder each, whose
name begins with the time of its making (`20261125101500_name/migration.sql`); those run whose name has no row. Source:
drizzle-orm 0.45.4 and 1.0.0-rc.4, `migrator.js` and `migrate` of the Postgres dialect (npm, 2026-12-01).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_json, parse_moment
from backout.errors import UsageError
from backout.model.database.compatibility import MigrationFile
from backout.model.database.migrations import StoredNames, make_stamp_key

if TYPE_CHECKING:
    from pathlib import Path

_JOURNAL: Final = "meta/_journal.json"
_TIME: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})")


class _Entry(msgspec.Struct):
    tag: str
    when: int


class _Journal(msgspec.Struct):
    entries: tuple[_Entry, ...]


class DrizzleMigrations:
    """The migrations of one folder of drizzle-kit; the checksum is Drizzle's own, SHA-256 of the file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> tuple[MigrationFile, ...]:
        """Return them in Drizzle's order.

        Raises:
            UsageError: no such folder or journal, a file that the journal names is missing, or it is no UTF-8.
        """
        return tuple(file for file, _ in self._read())

    def read_names(self) -> StoredNames:
        """Return what the rows are called, which hold no names. Raises as `read`."""
        found = self._read()
        stamps: dict[str, tuple[str, ...]] = {}
        for file, when in found:
            key = make_stamp_key(when)
            stamps[key] = (*stamps.get(key, ()), file.name)
        return StoredNames(stamps, {file.name: file.checksum for file, _ in found})

    def _read(self) -> list[tuple[MigrationFile, int]]:
        """Return the files, each with the milliseconds of its making."""
        if (self._folder / _JOURNAL).is_file():
            entries = self._read_journal().entries
            return [(_make_file(e.tag, self._find(e.tag), stamp=e.when), e.when) for e in entries]
        paths = sorted(self._folder.glob("*/migration.sql"), key=lambda path: path.parent.name)
        if not paths:
            raise UsageError(
                f"no {_JOURNAL}, and no folder with a migration.sql: these are not drizzle-kit's migrations",
                where=str(self._folder),
                hint="database.migrations_path names the folder `out` of drizzle.config.ts",
            )
        return [(_make_file(path.parent.name, path, stamp=None), _parse_when(path.parent)) for path in paths]

    def _read_journal(self) -> _Journal:
        path = self._folder / _JOURNAL
        try:
            return decode_json(path.read_bytes(), _Journal)
        except (OSError, Undecodable) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no journal of drizzle-kit"
            raise UsageError(f"cannot read it: {why}", where=str(path)) from None

    def _find(self, tag: str) -> Path:
        path = self._folder / f"{tag}.sql"
        if "/" in tag or "\\" in tag or not path.is_file():
            where = str(self._folder / _JOURNAL)
            raise UsageError(
                f"the journal names {tag}, and there is no such file", where=where, hint="restore it from git"
            )
        return path


def _parse_when(folder: Path) -> int:
    """Return the milliseconds of the time that a name begins with, in UTC."""
    found = _TIME.match(folder.name)
    year, month, day, hour, minute, second = found.groups() if found is not None else ("",) * 6
    try:
        return round(parse_moment(f"{year}-{month}-{day}T{hour}:{minute}:{second}Z")) * 1000
    except Undecodable:
        what = "its name does not begin with the time of its making, as drizzle-kit names a migration"
        raise UsageError(what, where=str(folder)) from None


def _make_file(name: str, path: Path, *, stamp: int | None) -> MigrationFile:
    try:
        content = path.read_bytes()
        return MigrationFile(name, content.decode(), hashlib.sha256(content).hexdigest(), stamp)
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError("not UTF-8", where=f"{path}:{line}") from None
