"""Ranges of the changes of a restore, which several machines work on at once."""

from __future__ import annotations

from backout.model.objects.versions import Attempt, Carried, Moment, ObjectChange
from backout.model.steps.base import Record
from backout.model.value import Value


class RangeWork(Record, frozen=True, kw_only=True):
    """What a range needs on any machine that works on it; no secret is in it.

    Args:
        place: which bucket of which store, and which history: a machine that has another one leaves it.
        version: of the backout that made it: another one leaves it.
        again: each object is looked at first, see `BucketVersions.carry_out`.
        attempts: those before, which may have made some of the changes.
        ahead_s: how far the clock of the journal's server is ahead of that by which the attempts are told.
        skew_s: how far apart the store's clock may be from that one.
    """

    place: str
    version: str
    prefix: str
    moment: Moment
    again: bool
    attempts: tuple[Attempt, ...]
    ahead_s: float
    skew_s: float
    changes: tuple[ObjectChange, ...]


class RangeOrder(Value, frozen=True):
    """A range to be worked on by whoever comes first.

    Args:
        first: the place of its first change among those of the run, which tells the ranges of a run apart.
        lane: what the run keeps in the journal.
        fence: of the lease with which the run is driven: with another one nobody works on it any more.
    """

    run: str
    first: int
    lane: str
    fence: int
    work: RangeWork


class Claimed(Value, frozen=True):
    """A range in the hands of one worker.

    Args:
        claim: how many have had it, this one included: what is told with an older number is refused.
        attempts: those before, also those of workers that were lost.
    """

    run: str
    first: int
    claim: int
    work: RangeWork
    attempts: tuple[Attempt, ...]


class RangeState(Value, frozen=True):
    """How a range stands, by the clock of the journal's server.

    Args:
        worker: who has it, "" for nobody.
        silent_s: for how long it was not heard of.
        done: how many of its changes are carried out, as far as it was told.
        why: of the last worker that gave it up, "" for none.
    """

    first: int
    worker: str
    silent_s: float
    done: int
    is_settled: bool
    why: str = ""


class RangesLeft(Value, frozen=True):
    """What is left of the ranges of a driver that is gone.

    Args:
        settled: what became of the changes of those that were finished, by the place of the first.
        spans: when somebody worked on each of the others, likewise, as (began, ended) in seconds ago; nobody did: ().
    """

    settled: dict[int, tuple[Carried, ...]]
    spans: dict[int, tuple[tuple[float, float], ...]]
