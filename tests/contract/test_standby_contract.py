"""Port Standby: the same promises on the World, and on real processes of a host's releases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest
from bare_host import BareHost

from backout.errors import ProviderRejected, ProviderUnavailable
from backout.model.release import ReleaseProcess
from backout.providers.caddy.host import HostReleases
from backout.providers.clock import SystemClock
from backout.providers.memory import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.ports import Standby


class Side(Protocol):
    """Versions whose processes are arranged from outside."""

    standby: Standby

    def upload(self, code: str) -> str:
        """Make a version; it does not run."""

    def start(self, version: str) -> None:
        """Have it run."""

    def stop(self, version: str) -> None:
        """Have it end."""

    def go_away(self) -> None:
        """Have nobody tell what runs any more."""


class MemorySide:
    """A World."""

    def __init__(self) -> None:
        self._world = World()
        self.standby: Standby = self._world.standby

    def upload(self, code: str) -> str:
        return self._world.upload(code).id

    def start(self, version: str) -> None:
        self._world.warm[version] = 45_000_000

    def stop(self, version: str) -> None:
        del self._world.warm[version]

    def go_away(self) -> None:
        def fail(_name: str) -> None:
            raise ProviderUnavailable("it does not answer")

        self._world.before_call = fail


class HostSide:
    """A host of releases."""

    def __init__(self, folder: Path) -> None:
        self._bare = BareHost(folder)
        self._releases = HostReleases((self._bare.host,), SystemClock(), starts_within_s=60.0)
        self.standby: Standby = self._releases
        self.running: set[str] = set()

    def upload(self, code: str) -> str:
        return self._bare.push(code).id

    def start(self, version: str) -> None:
        self.running.add(version)
        self._releases.start(version)

    def stop(self, version: str) -> None:
        self._releases.stop(version)
        self.running.discard(version)

    def go_away(self) -> None:
        self._bare.go_away()

    def end(self) -> None:
        """End what runs."""
        self._bare.machine.fails = lambda _deed, _arguments: None
        for version in sorted(self.running):
            self.stop(version)


@pytest.fixture(params=["memory", "caddy"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    """No version yet."""
    if request.param == "memory":
        yield MemorySide()
        return
    made = HostSide(tmp_path)
    try:
        yield made
    finally:
        made.end()


def measure(side: Side, version: str) -> ReleaseProcess:
    """Return what runs on the one host."""
    (found,) = side.standby.measure(version)
    assert found.host
    return found


def test_what_does_not_run_is_told_on_its_host(side: Side) -> None:
    """It takes no memory that could be measured; to ask starts nothing."""
    version = side.upload("one")
    for _ in range(2):
        found = measure(side, version)
        assert (found.runs, found.memory_bytes) == (False, None)


def test_what_runs_is_told_with_its_memory(side: Side) -> None:
    """Of that version alone, until it is ended."""
    version, other = side.upload("one"), side.upload("two")
    side.start(version)
    found = measure(side, version)
    assert found.runs
    assert found.memory_bytes is not None
    assert 1_000_000 < found.memory_bytes < 200_000_000
    assert not measure(side, other).runs
    side.stop(version)
    assert measure(side, version) == ReleaseProcess(found.host, runs=False)


def test_a_version_that_no_host_has_is_an_error(side: Side) -> None:
    """With status 404."""
    side.upload("one")
    with pytest.raises(ProviderRejected) as caught:
        side.standby.measure("gone")
    assert caught.value.status == 404


def test_who_does_not_answer_is_an_error(side: Side) -> None:
    """Never "it does not run"."""
    version = side.upload("one")
    side.go_away()
    with pytest.raises(ProviderUnavailable):
        side.standby.measure(version)
