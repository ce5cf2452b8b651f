"""The variables of a release: as text in its folder, and as keyed fingerprints, which tell whether one changed."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Final

from backout.errors import UsageError
from backout.escaping import shorten
from backout.model.secrets import SecretValues

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.release import Release

_DIGITS: Final = 16
_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_MOST_BYTES: Final = 1 << 17
_ESCAPED, _BEHIND = re.compile(r'([\\"$`])'), r"\\\1"


def check_variables(environment: SecretValues) -> None:
    """Raise UsageError where no process can have a variable; systemd leaves out names that are none, and says nothing.

    Source: systemd.exec(5), "EnvironmentFile=" (257); execve(2) (Linux 2.6.23): 32 pages for one string.
    """
    for name in environment.names:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{shorten(name)} is no name of a variable: letters, digits and _ alone")
        if len(f"{name}={environment.reveal(name)}".encode()) >= _MOST_BYTES:
            raise UsageError(f"the value of {name} is longer than {_MOST_BYTES >> 10} KiB: no process can have it")


def format_environment(environment: SecretValues) -> str:
    """Return NAME=VALUE, each with a NUL behind it."""
    return "".join(f"{name}={environment.reveal(name)}\0" for name in environment.names)


def parse_environment(content: bytes) -> SecretValues:
    """Return what `format_environment` wrote. Raises UnicodeDecodeError."""
    pairs = (line.partition("=") for line in content.decode().split("\0") if line)
    return SecretValues({name: value for name, _, value in pairs})


def format_unit_environment(release: Release, environment: SecretValues) -> str:
    """Return the variables of a release's process in the dialect of systemd's EnvironmentFile=.

    Source: systemd.exec(5), "EnvironmentFile=" (257): as a POSIX shell reads them; nothing is expanded.
    """
    values = {name: environment.reveal(name) for name in environment.names}
    values |= {"PORT": release.address.rpartition(":")[2], "RELEASE": release.id}
    return "".join(f'{name}="{_ESCAPED.sub(_BEHIND, value)}"\n' for name, value in values.items())


def make_fingerprints(environment: SecretValues, key: bytes) -> dict[str, str]:
    """Return those of an environment, by name."""
    return {
        name: hmac.new(key, f"{name}\0{environment.reveal(name)}".encode(), "sha256").hexdigest()[:_DIGITS]
        for name in environment.names
    }


def compare_environments(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names whose values differ, by their fingerprints, sorted.

    >>> compare_environments({"A": "1", "B": "2"}, {"A": "1", "B": "3", "C": "4"})
    ('B', 'C')
    """
    return tuple(sorted(name for name in {*one, *other} if one.get(name) != other.get(name)))
