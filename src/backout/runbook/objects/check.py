"""Whether a bucket can be worked in, and whether its past is kept ("check R2 bucket permissions")."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.model.objects.checks import History, HistoryLock
from backout.model.value import Value
from backout.report.times import format_duration

if TYPE_CHECKING:
    from backout.model.objects.checks import BucketFacts, PermissionLook
    from backout.model.objects.manifests import ManifestName
    from backout.runbook.objects.tools import ObjectTools

_SKEW_SHOWN_S: Final = 2.5
_LATE: Final = 2
"""A snapshot is late when two are due."""


class BucketCheck(Value, frozen=True):
    """What a check of the bucket found.

    Args:
        history: what its past is kept in, as was seen of an object that was written and deleted.
        why: what that rests on.
        newest_age_s: how old the newest thing in that history is, in seconds; None without one.
        problems: sentences; () when nothing is missing.
        lock: whether the store locks the snapshots, None without any.
    """

    facts: BucketFacts
    look: PermissionLook
    history: History
    why: str
    newest_age_s: float | None
    problems: tuple[str, ...]
    lock: HistoryLock | None = None


def judge_bucket(tools: ObjectTools) -> BucketCheck:
    """Ask the bucket, and try the access key on an object of backout's own.

    Raises:
        ProviderRejected: there is no such bucket.
        AuthError: the access key is not accepted at all.
    """
    facts = tools.look.read()
    look = tools.look.try_permissions()
    ahead_s = facts.clock_ahead_s or 0.0
    now = tools.clock.now() + ahead_s
    problems = [f"the access key may not {name}: {words}" for name, words in look.why]
    if tools.snapshots is not None:
        names = tools.snapshots.list_manifests()
        history, age_s = (History.SNAPSHOTS, now - names[-1].at) if names else (History.NONE, None)
        why = _describe_snapshots(names[-1], now - names[-1].at) if names else "no snapshot was taken yet"
        if age_s is None or age_s > tools.snapshot_every_s * _LATE:
            problems.append(f"a snapshot is due: {why}; type `backout objects snapshot -e {tools.environment}`")
    else:
        history = History.NONE if look.kept_at is None else History.VERSIONS
        why = _explain(facts, look) if look.kept_at is None else "a deleted object's version was still there"
        age_s = None if look.kept_at is None else max(0.0, now - look.kept_at)
        if look.kept_at is None:
            problems.append(f"what an object was before is not kept: {why}")
    lock = _read_lock(tools)
    if lock is not None and (lock.for_s or 0.0) > tools.snapshot_keep_s:
        kept, locked = format_duration(tools.snapshot_keep_s), _format_lock(lock)
        problems.append(f"snapshots are kept for {kept}, and locked {locked}: none can be removed in time")
    if look.left:
        problems.append(f"the object {look.left} of this check is still there: remove it")
    if facts.versioning == "suspended" and tools.snapshots is None:
        problems.append("the bucket's versions are suspended: a new write replaces an object for good")
    if abs(ahead_s) > _SKEW_SHOWN_S:
        word = "ahead of" if ahead_s > 0 else "behind"
        problems.append(f"the store's clock is {abs(ahead_s):.0f} s {word} this machine's")
    return BucketCheck(facts, look, history, why, age_s, tuple(problems), lock)


def _read_lock(tools: ObjectTools) -> HistoryLock | None:
    if tools.snapshots is None or tools.read_lock is None:
        return None
    try:
        return tools.read_lock()
    except BackoutError as error:
        return HistoryLock(None, why=error.what)


def describe_lock(lock: HistoryLock) -> str:
    """Return whether the history is locked, in words."""
    if lock.is_locked is None:
        return f"not known: {lock.why}"
    if not lock.is_locked:
        return "no rule locks the history: whoever has the access key can remove it"
    return f"what is written into the history is locked {_format_lock(lock)}"


def _format_lock(lock: HistoryLock) -> str:
    return "for ever" if lock.for_s is None or isinf(lock.for_s) else f"for {format_duration(lock.for_s)}"


def _describe_snapshots(newest: ManifestName, age_s: float) -> str:
    return f"the newest snapshot is {format_duration(age_s)} old, of {newest.objects:,} objects"


def _explain(facts: BucketFacts, look: PermissionLook) -> str:
    if facts.versioning in {"off", "suspended"}:
        return f"the bucket's versions are {facts.versioning}"
    if not (look.list and look.write and look.delete):
        return "it could not be tried with this access key"
    return "of an object that was written and deleted, no version is listed"
