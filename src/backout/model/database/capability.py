"""What can be recovered from here: facts about a server, the possible ways, and what each of them lacks."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.database.backups import Protection
    from backout.model.guard.connections import ConnectionUse


class Granularity(StrEnum):
    """How exactly a moment can be specified."""

    LSN = "lsn"
    MICROSECOND = "microsecond"
    SECOND = "second"
    SNAPSHOT = "snapshot"


class RecoveryPath(StrEnum):
    """Whose copies are restored: our own physical or logical ones, or those of the vendor."""

    OWN = "own"
    MANAGED = "managed"


class Readiness(StrEnum):
    """Whether a way is open now, after some setup, or not at all from here."""

    READY = "ready"
    POSSIBLE = "possible"
    CLOSED = "closed"


class Lack(Value, frozen=True):
    """Something that a way lacks: one sentence, and the command that fixes it ("" where none does)."""

    what: str
    line: str = ""


class RecoveryWay(Value, frozen=True):
    """One way to recover.

    Args:
        name: such as `own backups`.
        in_place: it overwrites the live database; otherwise it makes a new one beside it.
        earliest, latest: Unix seconds of what it can reach now, None when it reaches nothing or does not say.
        keeps_old: what was live stays under a name.
        note: one sentence more, "" for none.
    """

    name: str
    path: RecoveryPath
    readiness: Readiness
    granularity: Granularity
    in_place: bool
    keeps_old: bool
    earliest: float | None = None
    latest: float | None = None
    lacks: tuple[Lack, ...] = ()
    note: str = ""


class Pooler(Value, frozen=True):
    """A pooler or the like between us and the server: `name` is "" for none; `why` says how it was detected."""

    name: str = ""
    transactions: bool = False
    why: str = ""


class Replication(Value, frozen=True):
    """The outcome of a replication connection; `granted` None: it could not be tried."""

    granted: bool | None
    why: str = ""


class Archiver(Value, frozen=True):
    """pg_stat_archiver: how many segments succeeded and failed, and the last of each (Unix seconds)."""

    archived: int
    failed: int
    last_archived: str = ""
    last_archived_at: float | None = None
    last_failed: str = ""
    last_failed_at: float | None = None


class Slot(Value, frozen=True):
    """A replication slot and the WAL that it holds back; `wal_status` as Postgres says it, `lost` being the worst."""

    name: str
    kind: str
    active: bool
    retained_bytes: int | None
    wal_status: str = ""


class ServerFacts(Value, frozen=True):
    """The server as the role may see it. A part that it may not see is None (or missing in a mapping).

    Args:
        server_version: such as 180006.
        tls: the protocol, "" without.
        tls_verified: the certificate was checked.
        privileges: name of a right: whether the role has it.
        settings: name: value, only those that it may see.
        extensions: name: the installed version, "" when it only could be installed; absent ones are missing.
        unreadable: (what, why) for each question that was refused.
    """

    user: str
    database: str
    server_version: int
    tls: str
    tls_verified: bool
    in_recovery: bool | None = None
    system_identifier: str | None = None
    size_bytes: int | None = None
    privileges: Mapping[str, bool] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, str] | None = None
    archiver: Archiver | None = None
    slots: tuple[Slot, ...] | None = None
    pooler: Pooler = Pooler()
    replication: Replication = Replication(None, "not tried")
    unreadable: tuple[tuple[str, str], ...] = ()


class VendorWay(Value, frozen=True):
    """One of a vendor's own means of recovery.

    Args:
        name: such as `branch at a moment`.
        has_client: backout can use it; otherwise it is only documented here.
        missing: why it cannot be used now, "" when it can.
        line: the command that supplies what is missing, "" where none does.
    """

    name: str
    granularity: Granularity
    in_place: bool
    keeps_old: bool
    earliest: float | None = None
    latest: float | None = None
    has_client: bool = True
    missing: str = ""
    line: str = ""
    note: str = ""


class VendorState(Value, frozen=True):
    """The answer of a vendor's API.

    Args:
        vendor: its name.
        answers: whether the API answered with this token.
        problem: why not, "" otherwise.
        notes: things to know about it, whole sentences.
    """

    vendor: str
    answers: bool
    problem: str = ""
    ways: tuple[VendorWay, ...] = ()
    notes: tuple[str, ...] = ()


class Tools(Value, frozen=True):
    """The Postgres programs that backout uses: their version such as `18.6` ("" for none), and TLS."""

    version: str
    has_tls: bool = False

    @property
    def major(self) -> int:
        """The major version, 0 without programs."""
        return int(self.version.partition(".")[0] or 0)


class Window(Value, frozen=True):
    """The moments that a repository can restore to, Unix seconds; `copies` is the number of backups or dumps."""

    copies: int = 0
    earliest: float | None = None
    latest: float | None = None
    problem: str = ""


class Surroundings(Value, frozen=True):
    """Everything that the choice of a way is based on.

    Args:
        facts: None when the database cannot be asked; `problem` says why, `problem_code` is the error's exit code.
        is_here: the server is on this machine.
        connections: how many are in use, None when that cannot be read.
        own: our base backups.
        dumps: our logical ones.
        pgbackrest: an existing repository, None without one.
        vendor: what the vendor answered, None without one in the configuration.
        protection: whether the database could be brought back to every moment now, None where that is not known.
        proof_alarm: why the proofs of the backups need attention where no WAL is received.
        wal: how WAL is received by the configuration (`off`, `stream`, `sync`), "" where that is not known; slot: the
            receiver's, which identifies a running one.
    """

    environment: str
    facts: ServerFacts | None
    problem: str
    tools: Tools
    problem_code: int = 0
    is_here: bool = False
    connections: ConnectionUse | None = None
    own: Window = Window()
    dumps: Window = Window()
    pgbackrest: Window | None = None
    vendor: VendorState | None = None
    wal: str = ""
    slot: str = ""
    protection: Protection | None = None
    proof_alarm: str = ""

    @property
    def alarm(self) -> str:
        """What needs attention although something can be recovered, "" for nothing."""
        return self.protection.alarm if self.protection is not None else self.proof_alarm

    @property
    def is_receiving(self) -> bool | None:
        """Whether the server's WAL is being received for us now; None: its slots cannot be read."""
        if self.facts is None or self.facts.slots is None:
            return None
        return any(slot.name == self.slot and slot.active for slot in self.facts.slots)


class Choice(Value, frozen=True):
    """The ways, best first, and the chosen path (None: nothing can be recovered) with one sentence why."""

    ways: tuple[RecoveryWay, ...]
    path: RecoveryPath | None
    why: str
    warnings: tuple[str, ...] = ()
