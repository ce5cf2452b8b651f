"""Port JobWorkers: the same promises on the World, and on releases of a host with an operator's own commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest
from bare_host import BareHost

from backout.errors import ProviderRejected, ProviderUnavailable
from backout.model.jobs import RunningJobs
from backout.model.release import MAINTENANCE
from backout.model.version import MAINTENANCE_TAG
from backout.providers.caddy.jobs import HostJobs
from backout.providers.memory import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.ports import JobWorkers

_COMMAND = """#!/bin/sh
kept=$2/$3
case $1 in
start) test -e "$kept" || echo 0 > "$kept" ;;
stop) test -e "$2/stuck" || rm -f "$kept" ;;
show) cat "$kept" 2>/dev/null || echo stopped ;;
esac
"""
"""Keeps the number of jobs of a release that works in a file."""


class Side(Protocol):
    """Versions with workers, arranged from outside."""

    jobs: JobWorkers

    def upload(self, code: str) -> str:
        """Make a version; its workers do not run."""

    def make_page(self) -> str:
        """Make a maintenance version."""

    def give(self, version: str, count: int) -> None:
        """Have the workers of a version run, with so many jobs."""

    def hang(self) -> None:
        """Have no workers end from now on."""

    def go_away(self) -> None:
        """Have nobody tell which run any more."""


class MemorySide:
    """A World."""

    def __init__(self) -> None:
        self._world = World()
        self.jobs: JobWorkers = self._world.job_workers

    def upload(self, code: str) -> str:
        return self._world.upload(code).id

    def make_page(self) -> str:
        return self._world.upload(MAINTENANCE_TAG).id

    def give(self, version: str, count: int) -> None:
        self._world.jobs[version] = count

    def hang(self) -> None:
        self._world.jobs_hang = True

    def go_away(self) -> None:
        def fail(_name: str) -> None:
            raise ProviderUnavailable("it does not answer")

        self._world.before_call = fail


class HostSide:
    """A host of releases."""

    def __init__(self, folder: Path) -> None:
        self._bare = BareHost(folder)
        self._kept = folder / "workers"
        self._kept.mkdir()
        command = folder / "jobs"
        command.write_text(_COMMAND)
        start, stop, show = (f"sh {command} {each} {self._kept} {{release}}" for each in ("start", "stop", "show"))
        self.jobs: JobWorkers = HostJobs((self._bare.host,), start=start, stop=stop, show=show, within_s=5.0)

    def upload(self, code: str) -> str:
        return self._bare.push(code).id

    def make_page(self) -> str:
        return self._bare.push("page", MAINTENANCE).id

    def give(self, version: str, count: int) -> None:
        (self._kept / version).write_text(f"{count}\n")

    def hang(self) -> None:
        (self._kept / "stuck").touch()

    def go_away(self) -> None:
        self._bare.go_away()


@pytest.fixture(params=["memory", "caddy"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Side:
    """No version yet."""
    return MemorySide() if request.param == "memory" else HostSide(tmp_path)


def list_running(side: Side, *versions: str) -> dict[str, int]:
    """Return the jobs in flight by version."""
    look = side.jobs.read(versions or None)
    assert not look.problem
    assert {each.host for each in look.running} <= side.jobs.hosts
    return {each.version: each.in_flight for each in look.running}


def test_what_runs_is_told_with_its_jobs(side: Side) -> None:
    """Of every version that is there, or of those that are asked for."""
    first, second, third = (side.upload(each) for each in ("one", "two", "three"))
    assert list_running(side) == {}
    side.give(first, 3)
    side.give(third, 0)
    assert list_running(side) == {first: 3, third: 0}
    assert list_running(side, second, third) == {third: 0}
    assert side.jobs.read(()).running == ()
    (host,) = side.jobs.hosts
    assert side.jobs.read().list_apart(third) == (RunningJobs(first, host, 3),)


def test_workers_start_and_end_by_version_and_again_changes_nothing(side: Side) -> None:
    """Jobs in flight of workers that run already go on."""
    first, second = side.upload("one"), side.upload("two")
    side.give(first, 2)
    for _ in range(2):
        side.jobs.start(first)
        side.jobs.start(second)
        assert list_running(side) == {first: 2, second: 0}
    for _ in range(2):
        side.jobs.stop(first)
        assert list_running(side) == {second: 0}


def test_whoever_does_not_end_is_told_as_running(side: Side) -> None:
    """A stop is asked for, and says nothing of the end."""
    version = side.upload("one")
    side.give(version, 4)
    side.hang()
    side.jobs.stop(version)
    assert list_running(side, version) == {version: 4}


def test_a_version_that_is_not_there_has_no_workers(side: Side) -> None:
    """Nothing is left of them to end; to start them is an error."""
    version = side.upload("one")
    side.give(version, 1)
    side.jobs.stop("gone")
    with pytest.raises(ProviderRejected) as caught:
        side.jobs.start("gone")
    assert caught.value.status == 404
    assert list_running(side) == {version: 1}


def test_a_maintenance_version_has_no_workers(side: Side) -> None:
    """Whatever is asked of it."""
    page = side.make_page()
    side.jobs.start(page)
    assert list_running(side) == {}
    side.jobs.stop(page)


def test_how_they_are_moved_is_known_without_asking_anybody(side: Side) -> None:
    """A plan needs it, which nothing may hold up."""
    side.go_away()
    assert side.jobs.setup.within_s > 0
    assert side.jobs.setup.withheld == ""
    assert side.jobs.hosts


@pytest.mark.parametrize("ask", ["read", "stop", "start"])
def test_who_does_not_answer_is_an_error(side: Side, ask: str) -> None:
    """Never "none run"."""
    version = side.upload("one")
    side.give(version, 1)
    side.go_away()
    calls: dict[str, Callable[[], object]] = {
        "read": side.jobs.read,
        "stop": lambda: side.jobs.stop(version),
        "start": lambda: side.jobs.start(version),
    }
    with pytest.raises(ProviderUnavailable):
        calls[ask]()
