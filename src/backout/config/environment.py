"""The process's environment: the only module that reads it. Values are passed on, never looked up elsewhere."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backout.config.secret import Secret
from backout.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_SECRET_BYTES = 64 * 1024


def _ignore(_: str) -> None:
    return


def _keep_value(value: object) -> object:
    return value


@dataclass(frozen=True, slots=True)
class Environment:
    """A snapshot of the environment variables.

    Args:
        variables: all of them.
        on_secret: is given every secret value that is read, so that it can be masked.
        mask: returns JSON values with all those secrets masked in their texts; all output goes through it.
    """

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    on_secret: Callable[[str], None] = _ignore
    mask: Callable[[object], object] = _keep_value
    _piped: dict[Path, bytes] = field(default_factory=dict, init=False, repr=False)
    """What was read from a pipe, which can be read only once."""

    @classmethod
    def read(
        cls, on_secret: Callable[[str], None] = _ignore, mask: Callable[[object], object] = _keep_value
    ) -> Environment:
        """Take the snapshot of this process."""
        return cls(dict(os.environ), on_secret, mask)

    def mask_text(self, text: str) -> str:
        """Return a text with every secret read so far masked."""
        return str(self.mask(text))

    def get(self, name: str) -> str | None:
        """Return a variable that is not secret; an empty one counts as not set."""
        return self.variables.get(name) or None

    def secret(self, name: str) -> Secret | None:
        """Return NAME, else the content of the file that NAME_FILE names, else the systemd credential NAME, else None.

        Raises:
            AuthError: the file that is named cannot be read.
        """
        if value := self.get(name):
            return self._keep(value, name)
        if path := self.get(f"{name}_FILE"):
            return self.secret_file(Path(path), name)
        if folder := self.get("CREDENTIALS_DIRECTORY"):
            path_of_credential = Path(folder) / name
            if path_of_credential.is_file():
                return self.secret_file(path_of_credential, name)
        return None

    def require_secret(self, variable: str | None, path: Path | None, *, what: str, where: str) -> Secret:
        """Return a secret that the configuration says is kept in a variable, or else in a file.

        Args:
            what: names it in the error: "an API token".
            where: the section that says it.

        Raises:
            AuthError: it is not there, or nothing says where it is.
        """
        if variable and (found := self.secret(variable)):
            return found
        if path:
            return self.secret_file(path, what)
        if not variable:
            hint = "name the variable or the file that holds it: backout config example"
            raise AuthError(f"{what} is needed, and nothing says where it is kept", where=where, hint=hint)
        raise AuthError(
            f"{what} is needed, and {variable} is not set",
            where=where,
            hint=f"set {variable}, or {variable}_FILE to the path of a file that holds it",
        )

    def secret_file(self, path: Path, name: str) -> Secret:
        """Return a file's content without surrounding white space; every secret from a file is read by this.

        Raises:
            AuthError: others may read or write the file, it cannot be read, is empty, or is not a text of at most 64
                KiB.
        """
        from backout.config.trust import check_secret

        try:
            content = self._piped.get(path)  # a pipe gives it once, and opening it again waits for a second writer
            if content is None:
                with path.open("rb") as file:
                    found = os.fstat(file.fileno())
                    check_secret(path, found, name)
                    content = file.read(MAX_SECRET_BYTES + 1)
                if not stat.S_ISREG(found.st_mode):
                    self._piped[path] = content
            value = content.decode().strip()
        except OSError as error:
            raise AuthError(f"cannot read {name}: {error.strerror}", where=str(path)) from error
        except UnicodeDecodeError as error:
            raise AuthError(f"{name} is not UTF-8 text", where=str(path)) from error
        if not value or len(value) > MAX_SECRET_BYTES:
            raise AuthError(f"{name} is {'empty' if not value else 'longer than 64 KiB'}", where=str(path))
        return self._keep(value, name, f"the file {path}")

    def _keep(self, value: str, name: str, place: str = "") -> Secret:
        self.on_secret(value)
        return Secret(value, name=name, place=place)
