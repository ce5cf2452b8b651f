"""The steps of a complete recovery: what surrounds the restore of each part; times are Unix seconds."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from backout.model.steps.base import Arguments, Record, Result
from backout.model.steps.rollback import ReadBackResult


class Part(Record, frozen=True, kw_only=True):
    """What becomes of one part of the application.

    Args:
        action: "rollback", "upload", "swap", "rescue", "restore", "set", "stays" or "left out".
        begins: what it is now: a version, a position, a time.
        ends: what it is to be.
    """

    action: str
    begins: str = msgspec.field(default="", name="from")
    ends: str = msgspec.field(default="", name="to")


class CacheRecord(Record, frozen=True, kw_only=True):
    """A cache between the application and its database, as it was; see `model.platform.CacheState`."""

    id: str
    name: str
    max_age_s: float | None = None
    stale_s: float | None = None


class ReadyResult(Result, frozen=True, kw_only=True):
    """What was looked at; `objects`: how many are to be changed as far as is known now, None without any."""

    looked_at: tuple[str, ...]
    objects: int | None = None


class ReadyStep(Arguments[ReadyResult], frozen=True, kw_only=True):
    """Look whether everything that is needed is at hand, before anything is stopped.

    Args:
        expected: id of the deployment that the plan rests on.
        leaving: the version that it serves.
        version: the one that is to be live, "" where no other one is.
        uploads: it is uploaded again.
        secrets: fingerprints by name of what is set with it.
        source: where their values are read, as the journal keeps it.
    """

    action: ClassVar[str] = "recover_ready"
    expected: str
    leaving: str
    version: str = ""
    uploads: bool = False
    secrets: dict[str, str] = msgspec.field(default_factory=dict)
    source: dict[str, Any] = msgspec.field(default_factory=dict)


class MaintenanceResult(Result, frozen=True, kw_only=True):
    """The deployment that answers 503 ("" where the platform has none), since when, and until when it should end."""

    deployment: str
    version: str
    at: float
    deadline: float


class MaintenanceStep(Arguments[MaintenanceResult], frozen=True, kw_only=True):
    """Show the maintenance page; from here on the application is out of service.

    Args:
        expected, leaving: as of `ReadyStep`.
        deadline_s: after this time people are told that it lasts.
        shows: whether the platform can show one.
    """

    action: ClassVar[str] = "recover_maintenance"
    expected: str
    leaving: str
    deadline_s: float
    shows: bool = True


class PauseResult(Result, frozen=True, kw_only=True):
    """What does not run; `backlog`: how many messages wait, about, by queue."""

    queues: tuple[str, ...]
    schedules: tuple[str, ...]
    caches: tuple[str, ...]
    backlog: dict[str, int] = msgspec.field(default_factory=dict)


class PauseStep(Arguments[PauseResult], frozen=True, kw_only=True):
    """Stop queues and schedules, and the caches in front of the database.

    Args:
        queues: those that deliver now.
        schedules: those that are set now, None where there are none to set.
        caches: those that are on now.
    """

    action: ClassVar[str] = "recover_pause"
    queues: tuple[str, ...] = ()
    schedules: tuple[str, ...] | None = None
    caches: tuple[CacheRecord, ...] = ()


class FenceResult(Result, frozen=True, kw_only=True):
    """The fence that stands: who may not log in, since when, and the position from which nothing may be written."""

    roles: tuple[str, ...]
    at: float
    lsn: str


class FenceStep(Arguments[FenceResult], frozen=True, kw_only=True):
    """Let no role but ours log in to the database, and end the sessions that there are."""

    action: ClassVar[str] = "recover_fence"
    deadline_s: float


class ProveFenceResult(Result, frozen=True, kw_only=True):
    """That nothing was written since the fence: what was looked at, in words."""

    why: str
    at: float


class ProveFenceStep(Arguments[ProveFenceResult], frozen=True, kw_only=True):
    """Show that nobody writes: no session for `quiet_s` seconds, and no commit in the WAL since the fence."""

    action: ClassVar[str] = "recover_prove_fence"
    quiet_s: float = 5.0


class LostRows(Record, frozen=True, kw_only=True):
    """The rows of a table that an exchange leaves behind; see `model.database.written_since.WrittenTable`."""

    table: str
    key: tuple[str, ...]
    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    inserted: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


class UndoPointResult(Result, frozen=True, kw_only=True):
    """The restore point at the fence; the archive holds the WAL up to it.

    Args:
        lost: of an exchange, how many rows of each table were written since the moment, and are only in the undo point
            then; where they could not be listed, row versions by the WAL; None: not counted.
        rows: the same rows by key; None: not listed.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"lost"})
    name: str
    lsn: str
    at: float
    lost: dict[str, int] | None = None
    rows: tuple[LostRows, ...] | None = None


class UndoPointStep(Arguments[UndoPointResult], frozen=True, kw_only=True):
    """Record a restore point at the fence, and wait until it can be returned to."""

    action: ClassVar[str] = "recover_undo_point"


class FenceCopyStep(Arguments[FenceResult], frozen=True, kw_only=True):
    """Set the same fence in the side instance that is to take the live server's place; `name` is its name."""

    action: ClassVar[str] = "recover_fence_copy"
    name: str


class FenceStandsStep(Arguments[FenceResult], frozen=True, kw_only=True):
    """Look whether the fence of this run stands in the database that answers.

    Args:
        when: "before" the first change, "after" the exchange of a server.
    """

    action: ClassVar[str] = "recover_fence_stands"
    when: str


class RestoredResult(Result, frozen=True, kw_only=True):
    """What was checked, a sentence each.

    Args:
        accepted: of those, what was not shown, or was not as it had to be, and by whose word the run went on.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"accepted"})
    checked: tuple[str, ...]
    accepted: tuple[str, ...] = ()


class RestoredStep(Arguments[RestoredResult], frozen=True, kw_only=True):
    """Look whether the second checks of database and objects were made and are well, before anything is opened."""

    action: ClassVar[str] = "recover_restored"


class PlaceResult(Result, frozen=True, kw_only=True):
    """The version that stands at 0 %, its deployment, and the version whose code it is."""

    version: str
    deployment: str
    code_of: str


class PlaceStep(Arguments[PlaceResult], frozen=True, kw_only=True):
    """Put the target at 0 % of the traffic: one upload that carries its code and its secrets together.

    Args:
        Others as of `ReadyStep`.
        force: its own secret values come back with it: it is what was live before, itself.
    """

    action: ClassVar[str] = "recover_place"
    omitted: ClassVar[frozenset[str]] = frozenset({"force"})
    version: str
    leaving: str
    uploads: bool = False
    secrets: dict[str, str] = msgspec.field(default_factory=dict)
    source: dict[str, Any] = msgspec.field(default_factory=dict)
    force: bool = False


class OpenResult(Result, frozen=True, kw_only=True):
    """When the fence was taken away.

    Args:
        stood_s: for how long it stood, None where it was gone before.
        wrote: what one write of the application's role showed, a sentence; "" by an earlier version.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"wrote"})
    at: float
    stood_s: float | None = None
    wrote: str = ""


class OpenStep(Arguments[OpenResult], frozen=True, kw_only=True):
    """Take the fence away: what each role could do before, it can again; and the application's role writes once."""

    action: ClassVar[str] = "recover_open"


class ProveTargetResult(Result, frozen=True, kw_only=True):
    """Whether the target answers well at 0 %, None where that could not be measured."""

    version: str
    proved: bool | None
    why: str


class ProveTargetStep(Arguments[ProveTargetResult], frozen=True, kw_only=True):
    """Ask the target at 0 % of the traffic, on the database as it is now.

    Args:
        demanded: it has to answer well; what was live before, as in an undo, goes on be it well or not.
    """

    action: ClassVar[str] = "recover_prove"
    demanded: bool = True


class GoLiveStep(Arguments[ReadBackResult], frozen=True, kw_only=True):
    """Give the target all of the traffic, and read back what is live.

    Args:
        bad: the version that is left is bad.
        force: as of `PlaceStep`.
    """

    action: ClassVar[str] = "recover_go_live"
    version: str
    leaving: str
    bad: bool = False
    force: bool = False


class ResumeStep(Arguments[PauseResult], frozen=True, kw_only=True):
    """Let the queues deliver again, then the schedules, and set the caches as they were; as of `PauseStep`."""

    action: ClassVar[str] = "recover_resume"
    queues: tuple[str, ...] = ()
    schedules: tuple[str, ...] | None = None
    caches: tuple[CacheRecord, ...] = ()


class RecoverReportResult(Result, frozen=True, kw_only=True):
    """The path of the report."""

    path: str


class RecoverReportStep(Arguments[RecoverReportResult], frozen=True, kw_only=True):
    """Write the report, and send the notice.

    Args:
        target: the moment as it was typed.
        at: the same as a time.
        parts: what becomes of code, database, objects and secrets.
        undoes: the run that this one takes back, "" for none.
    """

    action: ClassVar[str] = "recover_report"
    target: str
    at: float
    parts: dict[str, Part]
    undoes: str = ""
