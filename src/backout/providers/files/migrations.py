"""Port MigrationFiles: migrations that are SQL, as Prisma keeps them (a folder each) or flat (a file each)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.model.compatibility import MigrationFile

if TYPE_CHECKING:
    from pathlib import Path


class PrismaMigrations:
    """`NAME/migration.sql` below a folder; the checksum is Prisma's own, SHA-256 of the file's bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> tuple[MigrationFile, ...]:
        """Return them by name. Raises UsageError: no such folder, or a file that is no UTF-8."""
        paths = _found(self._folder, "*/migration.sql")
        return tuple(_file(path.parent.name, path, summed=True) for path in sorted(paths, key=lambda p: p.parent.name))


class FlatMigrations:
    """`NAME.sql` in a folder, by name with its ending: D1's, and most others' that are plain SQL."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> tuple[MigrationFile, ...]:
        """Return them by name. Raises UsageError: no such folder, or a file that is no UTF-8."""
        paths = _found(self._folder, "*.sql")
        return tuple(_file(path.name, path, summed=False) for path in sorted(paths, key=lambda p: p.name))


def _found(folder: Path, pattern: str) -> list[Path]:
    if not folder.is_dir():
        raise UsageError("no such folder of migrations", where=str(folder), hint="database.migrations_path names it")
    return [path for path in folder.glob(pattern) if path.is_file()]


def _file(name: str, path: Path, *, summed: bool) -> MigrationFile:
    try:
        content = path.read_bytes()
        return MigrationFile(name, content.decode(), hashlib.sha256(content).hexdigest() if summed else "")
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError("not UTF-8", where=f"{path}:{line}") from None
