"""Sequences of a cluster that is replaced, and their state in its replacement."""

from __future__ import annotations

from backout.model.value import Value


class PlacedSequence(Value, frozen=True):
    """A sequence, and the file of the data directory that holds it.

    Args:
        name: `schema.sequence`, each quoted where it has to be.
        path: relative to the data directory.
    """

    oid: int
    name: str
    path: str


class Advanced(Value, frozen=True):
    """A sequence that was advanced past the values already handed out, as read back by another session."""

    database: str
    sequence: str
    before: int
    now: int


class SequencesLeft(Value, frozen=True):
    """A sequence that was not advanced, and why."""

    database: str
    sequence: str
    reason: str


class Carried(Value, frozen=True):
    """The result for the sequences of a data directory that replaces another one.

    Args:
        looked_at: the number of sequences.
        stopped_cleanly: whether the files of the other one told every last value, be it that it had replayed its WAL
            first (`replayed`).
    """

    looked_at: int
    advanced: tuple[Advanced, ...]
    left: tuple[SequencesLeft, ...]
    stopped_cleanly: bool = True
    replayed: bool = False
