"""The steps of a rollback of the code: prove, activate, read back, mark, restore schedules, report, settle."""

from __future__ import annotations

from typing import ClassVar

from backout.model.steps.base import Arguments, Record, Result
from backout.model.triggers import TriggerKind


class Alternative(Record, frozen=True, kw_only=True):
    """A version to try when the target does not answer well."""

    version: str
    reason: str = ""


class Tried(Record, frozen=True, kw_only=True):
    """The result of asking a target; `ok` None: it could not be measured."""

    version: str
    ok: bool | None
    why: str


class ProveResult(Result, frozen=True, kw_only=True):
    """The target to make live, and what is known of it.

    Args:
        proved: None where nothing was measured and the rollback goes on all the same.
        tried: the targets, in order.
        carried_from: the version whose code was uploaded again as this one, or None.
    """

    version: str
    proved: bool | None
    why: str
    tried: tuple[Tried, ...] = ()
    carried_from: str | None = None


class ProveStep(Arguments[ProveResult], frozen=True, kw_only=True):
    """Ask the target at 0 % of the traffic.

    Args:
        alternatives: versions that are tried behind it.
        kept: of all of these, those that are uploaded again from the copy kept here.
        expected: id of the deployment that the plan rests on.
        leaving: the version that is left.
        accept_unproven: a person accepts a target that cannot be asked.
        force: the target's own secret values come back.
        force_schema: name of the migration head that a person accepts as compatible, or "".
        carry: the target is uploaded again with the secrets as they are now.
        detected: why guard rolls back, "" of a person's rollback.
    """

    action: ClassVar[str] = "prove"
    version: str
    leaving: str
    expected: str
    alternatives: tuple[Alternative, ...] = ()
    kept: tuple[str, ...] = ()
    accept_unproven: bool = False
    force: bool = False
    force_schema: str = ""
    carry: bool = False
    detected: str = ""


class LeftCode(Record, frozen=True, kw_only=True):
    """The code being left, as a remark in a deployment's message names it."""

    version: str
    code_hash: str = ""
    git_sha: str = ""


class ActivateResult(Result, frozen=True, kw_only=True):
    """The deployment that was made, as the provider answered; `at` in Unix seconds."""

    deployment: str
    version: str
    at: float


class ActivateStep(Arguments[ActivateResult], frozen=True, kw_only=True):
    """Make a version live at 100 %.

    Args:
        leaving, leaving_since: the version that is left, and since when it was live (Unix seconds).
        expected: id of the deployment that the plan rests on; whatever else decides by then ends the run.
        message: why, for the deployment's message.
        force, carry, detected: as of `ProveStep`.
        detected_at: when guard found it, in Unix seconds; None of a person's rollback.
        hop: which rollback in a row this is, counted from 1.
        left: the code that is left.
        immediate: what would keep running the code of before for a while is reset.
    """

    action: ClassVar[str] = "activate"
    omitted: ClassVar[frozenset[str]] = frozenset({"immediate"})
    version: str
    leaving: str
    expected: str
    message: str
    leaving_since: float = 0.0
    force: bool = False
    carry: bool = False
    detected: str = ""
    detected_at: float | None = None
    hop: int = 1
    left: LeftCode | None = None
    immediate: bool = False


class StillLiveResult(Result, frozen=True, kw_only=True):
    """Id of the deployment that is live."""

    live: str | None


class StillLiveStep(Arguments[StillLiveResult], frozen=True, kw_only=True):
    """Check that the world is as planned, before a step that a switch cannot undo."""

    action: ClassVar[str] = "still_live"
    expected: str
    leaving: str


class ReadBackResult(Result, frozen=True, kw_only=True):
    """The live deployment by the provider; `since` and `read_at` in Unix seconds."""

    deployment: str
    version: str
    since: float
    read_at: float


class ReadBackStep(Arguments[ReadBackResult], frozen=True, kw_only=True):
    """Read back from the provider what is live."""

    action: ClassVar[str] = "read_back"
    version: str


class MarkResult(Result, frozen=True, kw_only=True):
    """Which mark which version has."""

    mark: str
    version: str


class MarkStep(Arguments[MarkResult], frozen=True, kw_only=True):
    """Record a judgement on a version that outlives the run.

    Args:
        mark: as `model.version.Mark`.
        code_hash: of its code, None where that is not known.
        migration_head: at which it was judged, None where it plays no part.
    """

    action: ClassVar[str] = "mark"
    omitted: ClassVar[frozenset[str]] = frozenset({"migration_head"})
    mark: str
    version: str
    why: str
    code_hash: str | None = None
    git_sha: str = ""
    migration_head: str | None = None


class RestoreSchedulesResult(Result, frozen=True, kw_only=True):
    """Whether the schedules are as they were: the current and the former ones, None where unknown; else why."""

    omitted: ClassVar[frozenset[str]] = frozenset({"why"})
    restored: bool
    schedules: tuple[str, ...] | None
    before: tuple[str, ...] | None
    why: str = ""


class RestoreSchedulesStep(Arguments[RestoreSchedulesResult], frozen=True, kw_only=True):
    """Set the schedules to those in force when the target was live."""

    action: ClassVar[str] = "restore_schedules"
    version: str
    schedules: tuple[str, ...]


class ReportResult(Result, frozen=True, kw_only=True):
    """The path of the report."""

    path: str


class ReportStep(Arguments[ReportResult], frozen=True, kw_only=True):
    """Write the incident report; `cause` is the run that led to this one, "" for none."""

    action: ClassVar[str] = "report"
    cause: str = ""


class SettleResult(Result, frozen=True, kw_only=True):
    """How a rollback ended: the kind of notice, why nothing more is done, whether a notice is sent, the next target."""

    omitted: ClassVar[frozenset[str]] = frozenset({"next"})
    outcome: str
    why: str = ""
    told: bool = False
    next: str = ""


class SettleStep(Arguments[SettleResult], frozen=True, kw_only=True):
    """Send the notice, and go back one version further where the target was bad too.

    Args:
        triggers: what started the application when the plan was made, by kind; None where that was not read.
    """

    action: ClassVar[str] = "settle"
    omitted: ClassVar[frozenset[str]] = frozenset({"triggers"})
    version: str
    leaving: str
    hop: int = 1
    triggers: dict[TriggerKind, tuple[str, ...]] | None = None
