"""The tools of a restore, what a person accepts for it, and the notes that restores leave in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backout.errors import BackoutError
    from backout.model.database.wal import WalGap
    from backout.model.database.written_since import WrittenTable
    from backout.ports import (
        Backups,
        Clock,
        CopyComparer,
        DatabaseServer,
        Journal,
        LiveDatabase,
        ReadsBeside,
        Rescuer,
        RowComparer,
        Runs,
        SequenceCarrier,
        SideBases,
        SideControl,
        SideInstances,
        SideWalk,
        WalReader,
    )

SWAPPED = "database.swapped"

RESCUED = "database.rescued"

RELEASED = "database.released"

PROMISE_LOST = "wal.promise_lost"
"""Commits are no longer safe the moment they are acknowledged; the watchdog of synchronous mode records the same."""


class Accepted(Value, frozen=True):
    """What a person accepts although it is not signed.

    Args:
        names: ids of backups and dumps, names of WAL files, as they were typed.
        to_side: whether it goes to a side instance; from then on only what was unpacked for that is used.
    """

    names: tuple[str, ...] = ()
    to_side: bool = True


NONE_ACCEPTED = Accepted()


class RestoreTools(Value, frozen=True):
    """What a restore may use.

    Args:
        live: the live database; it may be down.
        server: None when the configuration names no self-hosted server; `has_server_withheld`: it does, but its
            commands are not to be run.
        tools_version: the major version of the Postgres programs here.
        free_bytes: free space where side instances are kept.
        database: the application's.
        pinned: who the database has to be, "SYSTEM IDENTIFIER/NAME" (safety rule 1).
        accepted: what a person accepts although it is not signed.
        refused: returns the backups that may not be used.
        superuser: the cluster's own, where the server is down.
        carrier: None where sequences are not carried over.
        wal_beside: takes the WAL in the data directory, and returns it with the archive's and its reader.
        useless: reads segments that were not read back before, and returns the WAL that cannot be replayed.
        kept: the folder in which rescues keep what they replaced.
        written: lists the rows of the live database that a copy, by its connection string, does not have so, within
            that many seconds; None where nothing does.
        receiver: the name for which commits wait in synchronous mode, "" where no WAL is received.
    """

    environment: str
    actor: str
    clock: Clock
    journal: Journal
    runs: Runs
    backups: Backups
    wal: WalReader
    sides: SideInstances
    beside: SideControl
    walker: SideWalk
    bases: SideBases
    live: LiveDatabase
    rescuer: Callable[[str], Rescuer]
    comparer: Callable[[str], RowComparer]
    copies: CopyComparer
    kept: Path
    tools_version: int
    free_bytes: Callable[[Path | None], int]
    database: str
    pinned: str | None = None
    server: DatabaseServer | None = None
    has_server_withheld: bool = False
    written: Callable[[str, float], Sequence[WrittenTable]] | None = None
    receiver: str = ""
    superuser: str = "postgres"
    carrier: SequenceCarrier | None = None
    wal_beside: ReadsBeside | None = None
    accepted: Accepted = NONE_ACCEPTED
    refused: Callable[[], Sequence[tuple[str, BackoutError]]] = tuple
    useless: Callable[[Sequence[str]], Sequence[WalGap]] = lambda _names: ()
    say: Callable[[str], None] = lambda _text: None
