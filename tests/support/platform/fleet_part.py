"""What a fleet needs of a platform that some of its applications are on, and the visitors of those that serve some."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from backout.providers.child import tie_to_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VISITORS: Final = Path(__file__).with_name("fleet_visitors.py")


class Part(Protocol):
    """The applications of a fleet that are on one platform; each is an environment.

    Attributes:
        names: of them.
        place: where they are.
        blur_s: how exactly this platform tells when its applications were looked at.
    """

    names: tuple[str, ...]
    place: str
    blur_s: float

    def describe(self, name: str) -> str:
        """Return an application's lines of backout.toml, but those that all have."""
        ...

    def deploy(self, name: str, version: str) -> str:
        """Deploy a version as a deploy script does it, and return the id that the platform gave it."""
        ...

    def read_live(self, name: str) -> str:
        """Return the version that is live."""
        ...

    def read_switches(self, name: str) -> list[dict[str, Any]]:
        """Return what was made live, oldest first, as the platform recorded it: `at`, `version`, `message`."""
        ...

    def read_served(self, name: str) -> list[str]:
        """Return the versions that were live, in order, each once in a row, as the platform recorded it."""
        ...

    def read_looks(self) -> dict[str, list[float]]:
        """Return when the health of each application was looked at, by the clock of the server that was asked."""
        ...


def list_served(versions: list[str]) -> list[str]:
    """Return each of them once in a row."""
    return [each for before, each in zip(["", *versions], versions, strict=False) if each != before]


@contextlib.contextmanager
def visitors(rate: float, hosts: Mapping[str, str]) -> Iterator[None]:
    """Have visitors of applications come until the block ends, in a process of their own.

    Args:
        rate: a second, of each.
        hosts: the address of each by the Host header that leads to it.
    """
    pairs = [f"{host}={address}" for host, address in hosts.items()]
    argv = (sys.executable, "-I", "-S", str(_VISITORS), str(rate), *pairs)
    process = subprocess.Popen(tie_to_parent(argv, signal.SIGKILL))
    try:
        yield
    finally:
        process.kill()
        process.wait()
