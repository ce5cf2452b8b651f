"""Port SecretSource on what a machine keeps secrets in. No error quotes a value, nor what another program wrote."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError, UsageError
from backout.extras import describe_install
from backout.model.secrets import SecretValues
from backout.providers.child_environment import make_team_environment
from backout.providers.sources.parsing import MAX_BYTES, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    Heard = Callable[[str], None]
"""Told every value that is read, so that all output masks it."""

NAME_MARK: Final = "{name}"
COMMAND_S: Final = 60.0


class _Listed:
    """A source that is read whole, once, when it is first asked."""

    def __init__(self, described: str, read: Callable[[], dict[str, str]], heard: Heard) -> None:
        self._described = described
        self._read = read
        self._heard = heard
        self._found: dict[str, str] | None = None

    @property
    def described(self) -> str:
        """The source in words."""
        return self._described

    def names(self) -> tuple[str, ...] | None:
        """Return the names that it holds, None when it cannot list them."""
        return tuple(sorted(self._values()))

    def read(self, names: Collection[str]) -> SecretValues:
        """Return the values of these names that it holds."""
        return _check_usable({n: v for n, v in self._values().items() if n in names}, self._described)

    def _values(self) -> dict[str, str]:
        if self._found is None:
            self._found = self._read()
            for value in self._found.values():
                self._heard(value)
        return self._found


def from_text(data: bytes, described: str, heard: Heard) -> _Listed:
    """Return the source of a text that was handed over: a .env or a JSON object."""
    return _Listed(described, lambda: parse(data, described), heard)


def from_values(values: Mapping[str, str], described: str, heard: Heard) -> _Listed:
    """Return the source of values that were typed."""
    return _Listed(described, lambda: dict(values), heard)


def from_file(path: Path, heard: Heard, check: Callable[[Path, os.stat_result], None]) -> _Listed:
    """Return the source of a .env or a JSON file; it is read when it is asked.

    Args:
        check: raises for an open file that others could have written.
    """

    def read() -> dict[str, str]:
        try:
            with path.open("rb") as file:
                check(path, os.fstat(file.fileno()))
                return parse(file.read(MAX_BYTES + 1), str(path))
        except OSError as error:
            raise UsageError(f"cannot read it: {error.strerror}", where=str(path)) from error

    return _Listed(f"the file {path.name}", read, heard)


class EnvironmentSource:
    """The variables of this process: NAME is kept in PREFIX + NAME."""

    def __init__(self, variables: Mapping[str, str], prefix: str, heard: Heard) -> None:
        self._variables = variables
        self._prefix = prefix
        self._heard = heard

    @property
    def described(self) -> str:
        """The source in words."""
        return f"the variables {self._prefix}*" if self._prefix else "the environment"

    def names(self) -> tuple[str, ...] | None:
        """Return None without a prefix: not every variable of a process is a secret of the application."""
        if not self._prefix:
            return None
        found = (name.removeprefix(self._prefix) for name in self._variables if name.startswith(self._prefix))
        return tuple(sorted(name for name in found if name))

    def read(self, names: Collection[str]) -> SecretValues:
        """Return the values of these names that it holds."""
        found = {name: self._variables[key] for name in names if self._variables.get(key := f"{self._prefix}{name}")}
        for value in found.values():
            self._heard(value)
        return _check_usable(found, self.described)


class KeyringSource:
    """The system's keyring, through the library `keyring`, where that is installed.

    Args:
        service: under which the names are kept.
        load: returns the library; raises ImportError.
    """

    def __init__(
        self, service: str, heard: Heard, load: Callable[[], Any] = lambda: importlib.import_module("keyring")
    ) -> None:
        self._service = service
        self._heard = heard
        self._load = load

    @property
    def described(self) -> str:
        """The source in words."""
        return f"the keyring's service {self._service}"

    def names(self) -> tuple[str, ...] | None:
        """Return None: a keyring is asked name by name."""
        return None

    def read(self, names: Collection[str]) -> SecretValues:
        """Return the values of these names that it holds.

        Raises:
            UsageError: the library `keyring` is not installed, or a value cannot be used.
            BackoutError: the keyring does not answer.
        """
        try:
            library = self._load()
        except ImportError:
            raise UsageError(
                "the library `keyring` is not installed", where=self.described, hint=describe_install("keyring")
            ) from None
        found: dict[str, str] = {}
        for name in sorted(names):
            try:
                value = library.get_password(self._service, name)
            except Exception as error:  # noqa: BLE001 - every backend has errors of its own; their text may hold anything
                what = f"the keyring does not answer ({type(error).__name__})"
                raise BackoutError(what, where=self.described, hint="unlock it, then try again") from None
            if value is not None:
                self._heard(value)
                found[name] = value
        return _check_usable(found, self.described)


class CommandSource:
    """Another program, run without a shell: once for each name where `{name}` stands in its words, else once for all.

    With `{name}` its output is the value, without the line end; otherwise it is a .env or a JSON object. What it writes
    to stderr is never shown, and neither is its output: they may hold a value.

    Args:
        variables: the environment that it gets.
        folder: where it runs.
    """

    def __init__(
        self,
        words: Sequence[str],
        heard: Heard,
        *,
        variables: Mapping[str, str],
        folder: Path,
        timeout_s: float = COMMAND_S,
    ) -> None:
        self._words = tuple(words)
        self._heard = heard
        self._variables = variables
        self._folder = folder
        self._timeout_s = timeout_s
        self._found: dict[str, str] | None = None

    @property
    def described(self) -> str:
        """The source in words."""
        return f"the command {Path(self._words[0]).name}"

    def names(self) -> tuple[str, ...] | None:
        """Return the names that it holds, None when it cannot list them."""
        return None if self._by_name else tuple(sorted(self._all()))

    def read(self, names: Collection[str]) -> SecretValues:
        """Return the values of these names that it holds.

        Raises:
            UsageError: the command cannot be run or asked for such a name, or a value cannot be used.
            BackoutError: the command fails, or does not end in time.
        """
        if not self._by_name:
            return _check_usable({name: value for name, value in self._all().items() if name in names}, self.described)
        found = {}
        for name in sorted(names):
            if name == "" or name.startswith("-") or any(c in name for c in "/\\\0"):
                raise UsageError(f"{name!r} is not a name that a command can be asked for", where=self.described)
            words = [word.replace(NAME_MARK, name) for word in self._words]
            found[name] = _decode_text(self._run(words, f" for {name}"), self.described).rstrip("\r\n")
            self._heard(found[name])
        return _check_usable(found, self.described)

    @property
    def _by_name(self) -> bool:
        return any(NAME_MARK in word for word in self._words)

    def _all(self) -> dict[str, str]:
        if self._found is None:
            self._found = parse(self._run(self._words, ""), f"the output of {Path(self._words[0]).name}")
            for value in self._found.values():
                self._heard(value)
        return self._found

    def _run(self, words: Sequence[str], what_for: str) -> bytes:
        by_hand = "run it yourself to see why: " + shlex.join(words)
        try:
            done = subprocess.run(
                list(words),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=self._timeout_s,
                env=make_team_environment(self._variables),
                cwd=self._folder,
            )
        except subprocess.TimeoutExpired:
            what = f"it did not end within {self._timeout_s:g} s{what_for}"
            raise BackoutError(what, where=self.described, hint=by_hand) from None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "an argument that cannot be passed to a program"
            raise UsageError(f"it cannot be run: {why}", where=self.described, hint=by_hand) from None
        if done.returncode != 0:
            what = f"it ended with {done.returncode}{what_for}; its output is not shown, as it may contain a value"
            raise BackoutError(what, where=self.described, hint=by_hand)
        return done.stdout


def _decode_text(data: bytes, where: str) -> str:
    if len(data) > MAX_BYTES:
        raise UsageError("its output is larger than 1 MiB", where=where)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError("its output is not UTF-8", where=where) from None


def _check_usable(values: dict[str, str], where: str) -> SecretValues:
    """Return the values. Raises UsageError for one that no provider takes: an empty one, or one with a NUL."""
    for name, value in values.items():
        if not value.strip():
            raise UsageError(f"the value of {name} is empty", where=where)
        if "\0" in value:
            raise UsageError(f"the value of {name} holds a NUL", where=where)
    return SecretValues(values)
