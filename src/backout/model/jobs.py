"""What a version does besides answering requests: job workers and timers, which run for the live version alone."""

from __future__ import annotations

from backout.model.value import Value


class RunningJobs(Value, frozen=True):
    """The workers of a version that run on a host.

    Args:
        in_flight: how many jobs they are doing.
    """

    version: str
    host: str
    in_flight: int = 0


class JobsSetup(Value, frozen=True):
    """How workers are moved, as it is configured.

    Args:
        within_s: how long the jobs in flight may take after their workers were stopped.
        withheld: why workers cannot be stopped and started from here, "" where they can.
    """

    within_s: float
    withheld: str = ""


class JobsLook(Value, frozen=True):
    """Which workers run; `problem`: why that is not known, "" where it is."""

    running: tuple[RunningJobs, ...] = ()
    problem: str = ""

    def list_apart(self, version: str) -> tuple[RunningJobs, ...]:
        """Return the workers of every other version."""
        return tuple(each for each in self.running if each.version != version)


def count_in_flight(running: tuple[RunningJobs, ...]) -> int:
    """Return how many jobs these workers are doing."""
    return sum(each.in_flight for each in running)


def describe_running(running: tuple[RunningJobs, ...]) -> str:
    """Return in words which workers these are, and how many jobs they are doing.

    >>> describe_running((RunningJobs("v1", "web1", 2), RunningJobs("v1", "web2", 1)))
    'of version v1, 3 jobs in flight'
    """
    versions = " and ".join(dict.fromkeys(each.version[:8] for each in running))
    count = count_in_flight(running)
    return f"of version {versions}, {count} job{'' if count == 1 else 's'} in flight"
