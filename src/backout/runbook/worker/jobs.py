"""Which jobs an environment has beside being guarded, and which of them is due; pure."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backout.model.incident.incident import Event

BEGAN: Final = "began"
DONE: Final = "done"
FAILED: Final = "failed"
STOPPED: Final = "stopped"
"""The outcomes of an attempt; STOPPED: its worker was told to end, which is no failure."""
FIRST_WAIT_S: Final = 600.0
"""How long after the beginning of the first failed attempt the next one is; doubled with each, up to the interval."""
LEAST_S: Final = 60.0
"""No job begins more often, whatever is configured."""
SPREAD_S: Final = 30.0
"""Within this after a worker's beginning each job has its own first moment."""
BACKUP_EVERY_S: Final = 86_400.0
_DOUBLED_AT_MOST: Final = 20
_DRILL: Final = "drill "


class Needs(Value, frozen=True):
    """What an environment's configuration asks for, in seconds; 0: nothing of the kind.

    Args:
        snapshot_every_s: how often a snapshot of its objects is due.
        backup_every_s: the same for a base backup of its database.
        prove_within_s: how old the newest proof of a restore may be.
        drills: for each drill, how long a success counts.
    """

    snapshot_every_s: float = 0.0
    backup_every_s: float = 0.0
    prove_within_s: float = 0.0
    drills: Mapping[str, float] = {}


class Job(Value, frozen=True):
    """A command that is due again and again.

    Args:
        words: of the command, behind `backout -e ENVIRONMENT`.
        every_s: how long after the beginning of an attempt that was done well the next one is due.
        after: jobs of the environment of which each is attempted once before: a proof needs a backup, and drills, which
            take long, keep nobody's data safe.
    """

    environment: str
    name: str
    words: tuple[str, ...]
    every_s: float
    after: tuple[str, ...] = ()


class Past(Value, frozen=True):
    """What is known of a job's attempts.

    Args:
        turn: the journal's number of the newest beginning, 0: there was none.
        began_at: when that was, Unix seconds.
        well_at: when the newest attempt that was done well began.
        done_at: when it ended.
        failures: how many attempts began since then, and were not stopped by their worker's end.
    """

    turn: int = 0
    began_at: float | None = None
    well_at: float | None = None
    done_at: float | None = None
    failures: int = 0


def list_jobs(environment: str, needs: Needs) -> tuple[Job, ...]:
    """Return the jobs of an environment.

    >>> [job.name for job in list_jobs("production", Needs(snapshot_every_s=3600.0, prove_within_s=691200.0))]
    ['snapshot', 'proof']
    """
    kinds = (
        ("snapshot", ("objects", "snapshot"), needs.snapshot_every_s),
        ("backup", ("db", "backup"), needs.backup_every_s),
        ("proof", ("db", "backups", "prove"), needs.prove_within_s / 2),
        *((f"{_DRILL}{name}", ("drill", "run", name), counts_s) for name, counts_s in needs.drills.items()),
    )
    jobs: list[Job] = []
    for name, words, every_s in kinds:
        if every_s > 0:
            before = tuple(each.name for each in jobs if not each.name.startswith(_DRILL))
            jobs.append(Job(environment, name, words, max(every_s, LEAST_S), before))
    return tuple(jobs)


def add_attempt(past: Past, event: Event) -> Past:
    """Return what is known after an event of the kind `worker.job`."""
    match event.data.get("outcome"):
        case "began":
            return replace(past, turn=event.seq, began_at=event.at, failures=past.failures + 1)
        case "done":
            began_at = event.at if past.began_at is None else past.began_at
            return replace(past, well_at=began_at, done_at=event.at, failures=0)
        case "stopped":
            return replace(past, failures=max(past.failures - 1, 0))
        case _:
            return past


def add_elsewhere(past: Past, done_at: float | None) -> Past:
    """Return what is known when somebody else did the job as well.

    Args:
        done_at: when, Unix seconds; None: nobody did.
    """
    if done_at is None or done_at <= max(past.done_at or 0.0, past.well_at or 0.0):
        return past
    is_newer = past.began_at is None or done_at >= past.began_at
    return replace(past, well_at=done_at, done_at=done_at, failures=0 if is_newer else past.failures)


def find_due_at(job: Job, past: Past, since: float, spread_s: float = SPREAD_S) -> float:
    """Return from when on a job is due, Unix seconds.

    Args:
        since: when the worker began.
        spread_s: see `SPREAD_S`.

    >>> job = Job("production", "backup", ("db", "backup"), 86400.0)
    >>> [find_due_at(job, Past(1, 0.0, None, None, failures), 0.0, 0.0) for failures in (1, 2, 3, 99)]
    [600.0, 1200.0, 2400.0, 86400.0]
    """
    due_at = since
    if past.failures and past.began_at is not None:
        doubled = 2.0 ** min(past.failures - 1, _DOUBLED_AT_MOST)
        due_at = past.began_at + min(FIRST_WAIT_S * doubled, job.every_s)
    elif past.well_at is not None:
        due_at = past.well_at + job.every_s
    share = zlib.crc32(f"{job.environment} {job.name}".encode()) / 2**32
    return max(due_at, since + share * spread_s)


def list_due(
    jobs: Iterable[Job], past: Mapping[tuple[str, str], Past], now: float, since: float, spread_s: float = SPREAD_S
) -> tuple[Job, ...]:
    """Return the jobs that are due, the one that waits longest first, so that none waits for ever.

    A job is not due before those that it comes after were attempted once, by whichever worker or person; an attempt
    that was stopped, as its worker ended, is none.

    Args:
        past: by environment and name of the job.
        now: Unix seconds.
        since: when the worker began.
        spread_s: see `SPREAD_S`.
    """
    due = [(find_due_at(job, past.get((job.environment, job.name), Past()), since, spread_s), job) for job in jobs]
    due = [(at, job) for at, job in due if at <= now and _is_its_turn(job, past)]
    return tuple(job for _, job in sorted(due, key=lambda each: (each[0], each[1].environment, each[1].name)))


def _is_its_turn(job: Job, past: Mapping[tuple[str, str], Past]) -> bool:
    known = (past.get((job.environment, name), Past()) for name in job.after)
    return all(each.failures or each.well_at is not None for each in known)
