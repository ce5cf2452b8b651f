"""Ports on the hosts of an application: what its versions do there besides answering requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.jobs import JobsLook, JobsSetup
    from backout.model.release import ReleaseProcess


class JobWorkers(Protocol):
    """Job workers and timers of a version, on the hosts that it runs on."""

    @property
    def hosts(self) -> frozenset[str]:
        """The names of the hosts that have workers."""
        ...

    @property
    def setup(self) -> JobsSetup:
        """How workers are moved; asks nobody."""
        ...

    def read(self, versions: Collection[str] | None = None) -> JobsLook:
        """Return which workers run, with their jobs in flight.

        Args:
            versions: whose; None: those of every version that is there.

        Raises:
            ProviderUnavailable, AuthError: a host does not say it.
        """
        ...

    def stop(self, version: str) -> None:
        """Have the workers of a version end with the jobs that they have; returns when that was asked for.

        Doing it again changes nothing; `start` likewise. Raises BackoutError.
        """
        ...

    def start(self, version: str) -> None:
        """Have the workers of a version run, on each host."""
        ...


class Standby(Protocol):
    """The processes of versions that no visitor gets, which a rollback would use."""

    def measure(self, version: str) -> tuple[ReleaseProcess, ...]:
        """Return what runs of a version, on each host that is reached.

        Raises:
            ProviderRejected: no host has it (status 404).
            ProviderUnavailable, AuthError: no host was reached.
        """
        ...
