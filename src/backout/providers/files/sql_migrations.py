"""Port MigrationFiles on any SQL files: Prisma's folders, flat files of any tool, a single file.

Layouts: `NAME/migration.sql` (Prisma), `NAME/up.sql` (Diesel, Hasura), `NAME.sql` (D1, Drizzle, Flyway, Supabase, by
hand), `NAME.up.sql` (golang-migrate, sqlx). Undo scripts are left out: `NAME.down.sql`, Flyway's `U1__NAME.sql`, and
what stands behind `-- migrate:down` (dbmate), `-- +goose Down`, `-- Down Migration` (node-pg-migrate) in a file.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from backout.errors import UsageError
from backout.model.database.compatibility import MigrationFile

if TYPE_CHECKING:
    from pathlib import Path

_IN_FOLDERS: Final = ("migration.sql", "up.sql")
_UNDO_FILE: Final = re.compile(r"(?i).*[._]down\.sql|U\d[\d._]*__.*\.sql")
_UNDO_PART: Final = re.compile(
    r"(?im)^[ \t]*--[ \t]*(?:migrate:[ \t]*down|\+goose[ \t]+down|\+migrate[ \t]+down|down[ \t]+migration|//@undo)\b"
)
_NUMBER: Final = re.compile(r"\d+")
_FLYWAY: Final = re.compile(r"V(\d[\d._]*?)__")
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


class SqlMigrations:
    """Migrations below a folder, or in one file.

    Args:
        path: as typed; errors show it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[MigrationFile, ...]:
        """Return them by name, as Prisma does; flat files with their numbers counted as numbers, as D1 and Flyway do.

        The checksum is Prisma's (SHA-256 of the bytes).

        Raises:
            UsageError: there is no such path, a file cannot be read or is no UTF-8, or the folder holds Python.
        """
        if not self._path.exists():
            raise UsageError("no such file or folder", where=str(self._path), hint="name a folder of migrations")
        if self._path.is_file():
            return (_make_file(_get_name(self._path), self._path),)
        try:
            found = _find_files(self._path)
        except OSError as error:
            raise UsageError(f"cannot read it: {error.strerror}", where=str(error.filename or self._path)) from None
        if not found:
            _say_how(self._path)
        flat = all(path.parent == self._path for path in found.values())
        ordered = sorted(found.items(), key=lambda item: _make_sort_key(item[0])) if flat else sorted(found.items())
        return tuple(_make_file(name, path) for name, path in ordered)


def _find_files(folder: Path) -> dict[str, Path]:
    if (folder / _IN_FOLDERS[0]).is_file():  # one migration of Prisma
        return {folder.resolve().name: folder / _IN_FOLDERS[0]}
    flat = {path.name: path for path in folder.iterdir() if path.suffix.lower() == ".sql" and not path.is_dir()}
    found = {name: path for name, path in flat.items() if not _UNDO_FILE.fullmatch(name)}
    for inner in folder.iterdir():
        inside = [inner / name for name in _IN_FOLDERS if (inner / name).exists()]
        if inside:
            found[inner.name] = inside[0]
    return found


def _get_name(path: Path) -> str:
    return path.resolve().parent.name if path.name in _IN_FOLDERS else path.name


def _make_sort_key(name: str) -> tuple[bool, tuple[tuple[str, int], ...], str]:
    """Return the key to sort by: texts and numbers in turn; of Flyway's `V1_2__name`, the version before the name."""
    flyway = _FLYWAY.match(name)
    if flyway:
        first, *others = (int(number) for number in _NUMBER.findall(flyway[1]))
        return False, (("V", first), *(("", number) for number in others)), name
    numbers = [*map(int, _NUMBER.findall(name)), -1]
    pairs = zip(_NUMBER.split(name), numbers, strict=True)
    return name.startswith("R__"), tuple(pairs), name  # Flyway runs what is repeatable after all others


def _say_how(folder: Path) -> None:
    """Raise when the folder holds migrations in another language, or they lie one level deeper; else it is empty."""
    deeper = [inner for inner in folder.iterdir() if inner.is_dir() and _find_files(inner)]
    if deeper:
        raise UsageError("no migrations here, but one folder deeper", where=str(folder), hint=f"name {deeper[0]}")
    python = [path for path in folder.rglob("*.py") if path.name != "__init__.py"]
    if not python:
        return
    if any("class Migration" in _read_start(path) for path in python):
        hint = "write each as SQL first: python manage.py sqlmigrate APP NAME > sql/NAME.sql; then name that folder"
        raise UsageError("Django's migrations are Python, not SQL", where=str(folder), hint=hint)
    hint = "write each as SQL first: alembic upgrade PREVIOUS:REVISION --sql > sql/REVISION.sql; then name that folder"
    raise UsageError("Alembic's migrations are Python, not SQL", where=str(folder), hint=hint)


def _read_start(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:20_000]
    except OSError:
        return ""


def _make_file(name: str, path: Path) -> MigrationFile:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(path)) from None
    if content.startswith(_UTF_16):
        hint = "save it as UTF-8: iconv -f UTF-16 -t UTF-8"
        raise UsageError("it is UTF-16, and Postgres's tools read UTF-8", where=str(path), hint=hint)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError("not UTF-8", where=f"{path}:{line}", hint="save it as UTF-8") from None
    undo = None if path.name in _IN_FOLDERS else _UNDO_PART.search(text)  # those tools run the whole file
    return MigrationFile(name, text[: undo.start()] if undo else text, hashlib.sha256(content).hexdigest())
