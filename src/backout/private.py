"""Files and folders that only their owner may read, whatever the umask: records, reports, cards, keys.

They hold the code of versions, an application's output, who was called when. To share a report, a person passes it on.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

OURS: Final = ".backout"


def make_private_folder(folder: Path) -> None:
    """Make a folder and its missing parents; existing ones stay as they are.

    A folder `.backout` is kept out of git: a repository's records could be anyone's, and are not accepted (`trust`).

    Raises:
        OSError: it cannot be made.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder.parent == folder:
            break
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        if each.name == OURS:
            with contextlib.suppress(OSError):  # what was made first is enough
                write_new(each / ".gitignore", b"*\n")


def create_database(path: Path) -> None:
    """Create an empty file for SQLite, which only its owner can read; one that is there is not opened.

    To close a file drops all POSIX locks that this process has on it, those of its open connections included. Another
    process that closes the database then believes to be the last one and removes its -wal file, and what those
    connections commit from then on is in a file without a name: lost.

    Source: SQLite, "How To Corrupt An SQLite Database File", 2.2.

    Raises:
        OSError: it is not there and cannot be made.
    """
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist yet, durable when this returns. Raises OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def open_unlinked(path: str, flags: int) -> int:
    """Open a file for its owner alone, never through a link in its place: an opener for `open`.

    Raises:
        OSError: it cannot be opened, or is a link (ELOOP).
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def write_over(path: Path, content: bytes) -> None:
    """Write a file, replacing an existing one: whole or not at all. Raises OSError."""
    temporary = path.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        write_new(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def rewrite(path: Path, text: str) -> None:
    """Replace the text of a file, whole or not at all, as it is; it keeps its permissions. Raises OSError."""
    target = path.resolve()
    temporary = target.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        write_new(temporary, text.encode())
        temporary.chmod(target.stat().st_mode & 0o7777)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
