"""Port Holds on a folder: one small file for each environment. A file that cannot be read counts as a hold."""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError
from backout.model.hold import Hold
from backout.private import make_private_folder

if TYPE_CHECKING:
    from pathlib import Path


class FileHolds:
    """Port Holds.

    Args:
        directory: made at the first hold, for its owner alone. It needs no journal.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, environment: str) -> Path:
        """Return where an environment's hold is kept."""
        return self._directory / f"{environment}.json"

    def read(self, environment: str) -> Hold | None:
        """Return the newest hold that was set here, or None; a damaged or unreadable file is a hold without an end."""
        path = self.path(environment)
        try:
            return decode_json(path.read_bytes(), Hold)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _assume_hold(path, error.strerror or type(error).__name__)
        except Undecodable:
            return _assume_hold(path, "it is damaged")

    def write(self, environment: str, hold: Hold) -> None:
        """Set it: the file is whole, readable by its owner alone, and durable when this returns.

        Raises:
            BackoutError: the file cannot be written.
        """
        path = self.path(environment)
        try:
            make_private_folder(self._directory)
            temporary = self._directory / f".{os.getpid()}-{os.urandom(4).hex()}.tmp"
            try:
                with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(msgspec.json.encode(hold) + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            _sync(self._directory)
        except OSError as error:
            what = f"the hold cannot be written: {error.strerror or type(error).__name__}"
            raise BackoutError(what, where=str(path), hint=f"check who owns it: ls -ld {self._directory}") from error


def _assume_hold(path: Path, why: str) -> Hold:
    """Return the hold assumed for a file that cannot be read: it may contain one."""
    return Hold(math.inf, f"the file {path} cannot be read ({why}), so a hold is assumed", "", math.inf, "this host")


def _sync(directory: Path) -> None:
    """Make the file's name durable too; some file systems cannot, and then the rename has to do."""
    with contextlib.suppress(OSError):
        folder = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
