"""Port MigrationFiles: the files of Prisma and of D1 exactly as these tools name, sort and checksum them.

A history is compared with them and Prisma's are applied, so nothing is guessed here: a file that a tool ignores is not
one of its migrations. Sources: Prisma documentation, "Migration histories" (folders by name, `migration.sql` in each);
wrangler 4.164, `getD1MigrationFiles` (`*.sql`, by the number in front, then by name).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from backout.errors import UsageError
from backout.model.database.compatibility import MigrationFile

if TYPE_CHECKING:
    from pathlib import Path

_NUMBER: Final = re.compile(r"\s*[+-]?\d+")


class PrismaMigrations:
    """`NAME/migration.sql` below a folder; the checksum is Prisma's own, SHA-256 of the file's bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> tuple[MigrationFile, ...]:
        """Return them by name. Raises UsageError: no such folder, or a file that is no UTF-8."""
        paths = sorted(_find_files(self._folder, "*/migration.sql"), key=lambda path: path.parent.name)
        return tuple(_make_file(path.parent.name, path, summed=True) for path in paths)


class D1Migrations:
    """`NAME.sql` in a folder; wrangler keeps no checksum."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> tuple[MigrationFile, ...]:
        """Return them in wrangler's order. Raises UsageError: no such folder, or a file that is no UTF-8."""
        paths = sorted(_find_files(self._folder, "[!.]*.sql"), key=lambda path: _make_sort_key(path.name))
        return tuple(_make_file(path.name, path, summed=False) for path in paths)


def _make_sort_key(name: str) -> tuple[bool, int, str]:
    """Return what sorts as wrangler does: numbers as numbers, names without one behind them.

    >>> sorted(["10_c.sql", "9_b.sql", "a.sql", "0009_a.sql"], key=_make_sort_key)
    ['0009_a.sql', '9_b.sql', '10_c.sql', 'a.sql']
    """
    number = _NUMBER.match(name.partition("_")[0])
    return number is None, int(number[0]) if number else 0, name


def _find_files(folder: Path, pattern: str) -> list[Path]:
    if not folder.is_dir():
        raise UsageError("no such folder of migrations", where=str(folder), hint="database.migrations_path names it")
    return [path for path in folder.glob(pattern) if path.is_file()]


def _make_file(name: str, path: Path, *, summed: bool) -> MigrationFile:
    try:
        content = path.read_bytes()
        return MigrationFile(name, content.decode(), hashlib.sha256(content).hexdigest() if summed else "")
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError("not UTF-8", where=f"{path}:{line}") from None
