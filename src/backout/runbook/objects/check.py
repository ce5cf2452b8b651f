"""Whether a bucket can be worked in, and whether its past is kept ("check R2 bucket permissions")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.checkup.objects import check_access, check_bucket_clock, check_lock, check_objects
from backout.errors import BackoutError
from backout.model.checkup import CheckState
from backout.model.objects.checks import History, HistoryLock
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.checkup import Check
    from backout.model.objects.checks import BucketFacts, PermissionLook
    from backout.runbook.objects.tools import ObjectTools


class BucketCheck(Value, frozen=True):
    """What a check of the bucket found.

    Args:
        history: what its past is kept in, as was seen of an object that was written and deleted.
        newest_age_s: how old the newest thing in that history is, in seconds; None without one.
        kept: the check of that history; checks: all of them.
        lock: whether the store locks the snapshots, None without any.
    """

    facts: BucketFacts
    look: PermissionLook
    history: History
    newest_age_s: float | None
    kept: Check
    checks: tuple[Check, ...]
    lock: HistoryLock | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is missing, one sentence each."""
        return tuple(
            f"{check.why}: {check.next}" if check.next.lines else check.why
            for check in self.checks
            if check.state is CheckState.MISSING
        )


def judge_bucket(tools: ObjectTools) -> BucketCheck:
    """Ask the bucket, and try the access key on an object of backout's own.

    Raises:
        ProviderRejected: there is no such bucket.
        AuthError: the access key is not accepted at all.
    """
    facts = tools.look.read()
    look = tools.look.try_permissions()
    now = tools.clock.now() + (facts.clock_ahead_s or 0.0)
    names = () if tools.snapshots is None else tools.snapshots.list_manifests()
    newest_age_s: float | None
    if tools.snapshots is not None:
        newest_age_s = now - names[-1].at if names else None
        history = History.SNAPSHOTS if names else History.NONE
    else:
        newest_age_s = None if look.kept_at is None else max(0.0, now - look.kept_at)
        history = History.NONE if look.kept_at is None else History.VERSIONS
    kept = check_objects(
        facts,
        tools.environment,
        snapshot_age_s=newest_age_s,
        takes_snapshots=tools.snapshots is not None,
        every_s=tools.snapshot_every_s,
        must_be_kept=True,
        tried=look,
        snapshot_objects=names[-1].objects if names else 0,
    )
    lock = _read_lock(tools)
    locked = () if lock is None else (check_lock(lock, tools.snapshot_keep_s),)
    checks = (*check_access(look, tools.environment), kept, *locked, check_bucket_clock(facts))
    return BucketCheck(facts, look, history, newest_age_s, kept, checks, lock)


def _read_lock(tools: ObjectTools) -> HistoryLock | None:
    if tools.snapshots is None or tools.read_lock is None:
        return None
    try:
        return tools.read_lock()
    except BackoutError as error:
        return HistoryLock(None, why=error.what)
