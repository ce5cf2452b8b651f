"""Sequences of a cluster that goes, and what became of them in the one that comes in its place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlacedSequence:
    """A sequence, and the file of the data directory that holds it.

    Args:
        name: `schema.sequence`, each quoted where it has to be. path: relative to the data directory.
    """

    oid: int
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """A sequence that was advanced past what had been handed out, as another session read it back."""

    database: str
    sequence: str
    before: int
    now: int


@dataclass(frozen=True, slots=True)
class SequencesLeft:
    """One that was not, and why."""

    database: str
    sequence: str
    reason: str


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of the sequences of a data directory that comes in place of another one.

    Args:
        looked_at: how many there are. stopped_cleanly: whether the files of the other one told every last value.
    """

    looked_at: int
    advanced: tuple[Advanced, ...]
    left: tuple[SequencesLeft, ...]
    stopped_cleanly: bool = True
