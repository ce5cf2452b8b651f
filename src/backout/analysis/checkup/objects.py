"""Checks of the application's bucket: whether its objects could be brought back; pure."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING, Final

from backout.model.checkup import must, should
from backout.model.clock import format_duration
from backout.model.hint import parse_hint, suggest_command, suggest_line, suggest_words
from backout.model.objects.checks import describe_permission

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.checkup import Check, Subject
    from backout.model.objects.checks import BucketFacts, HistoryLock, PermissionLook

SKEW_SHOWN_S: Final = 2.5
_LATE: Final = 2.0
"""A snapshot is late when two are due."""


def check_objects(
    facts: BucketFacts,
    environment: str,
    *,
    snapshot_age_s: float | None,
    takes_snapshots: bool,
    every_s: float,
    must_be_kept: bool = False,
    tried: PermissionLook | None = None,
    snapshot_objects: int,
) -> Check:
    """Return whether what the objects were before is kept.

    Args:
        snapshot_age_s: the age of the newest snapshot, None without one.
        takes_snapshots: a bucket for them is set up.
        every_s: how often one is due.
        must_be_kept: objects have to be brought back, or may have to after a deployment.
        tried: what an object that was written and deleted showed; None: only the bucket's settings are known.
        snapshot_objects: how many objects the newest snapshot has.
    """
    subject, look = must("objects", when=must_be_kept), suggest_command("objects check", environment)
    if takes_snapshots:
        take = suggest_command("objects snapshot", environment)
        if snapshot_age_s is None:
            return subject.missing("no snapshot of the bucket was taken yet", take)
        age = format_duration(snapshot_age_s)
        said = f"the newest snapshot of the bucket is {age} old, of {snapshot_objects:,} objects"
        return subject.missing(said, take) if snapshot_age_s > every_s * _LATE else subject.ok(said)
    if tried is not None:
        return _check_tried(facts, tried, subject)
    if facts.versioning == "enabled":
        kept_s = facts.expires_after_s
        kept = "" if kept_s is None else f", for {format_duration(kept_s)}"
        return subject.ok(f"the bucket keeps versions{kept}")
    if facts.versioning == "unknown":
        return subject.unmeasured("the access key may not ask whether the bucket keeps versions", look)
    why = f"the bucket's versions are {facts.versioning}: an object that is overwritten or deleted is lost"
    return subject.missing(why, look)


def _check_tried(facts: BucketFacts, tried: PermissionLook, subject: Subject) -> Check:
    keep = suggest_words("switch the bucket's versions on, or have snapshots taken: docs/objects.md")
    if tried.kept_at is None:
        return subject.missing(f"what an object was before is not kept: {_explain(facts, tried)}", keep)
    if facts.versioning == "suspended":
        return subject.missing("the bucket's versions are suspended: a new write replaces an object for good", keep)
    return subject.ok("a deleted object's version was still there")


def _explain(facts: BucketFacts, tried: PermissionLook) -> str:
    if facts.versioning in {"off", "suspended"}:
        return f"the bucket's versions are {facts.versioning}"
    if not (tried.list and tried.write and tried.delete):
        return "it could not be tried with this access key"
    return "of an object that was written and deleted, no version is listed"


def check_access(tried: PermissionLook, environment: str) -> Iterator[Check]:
    """Yield whether the access key may do each thing that a restore needs, as it was tried."""
    look, refused = suggest_command("objects check", environment), dict(tried.why)
    for name, is_allowed in tried.allowed.items():
        subject, what = must(f"objects_{name}"), describe_permission(name)
        if is_allowed:
            yield subject.ok("the access key may")
        elif is_allowed is None:
            yield subject.unmeasured("not asked: what it needs was refused before", look)
        else:
            why = f"the access key may not {what}: {refused.get(name, 'it was refused')}"
            yield subject.missing(
                why, suggest_words(f"give the access key the right to {what}{'' if what != name else ' objects'}")
            )
    if tried.left:
        why = f"the object {tried.left} of this check is still there"
        yield should("objects_left").missing(why, suggest_words("remove it"))


def check_lock(lock: HistoryLock, keep_s: float) -> Check:
    """Return whether the store locks the snapshots, and not for longer than they are kept."""
    subject, said = should("objects_lock"), describe_lock(lock)
    if lock.is_locked is None:
        return subject.unmeasured(said)
    if not lock.is_locked:
        return subject.not_set_up(said, suggest_words("set a lock rule on the history's bucket: docs/objects.md"))
    if (lock.for_s or 0.0) > keep_s:
        kept = format_duration(keep_s)
        why = f"snapshots are kept for {kept}, and locked {_format_lock(lock)}: none can be removed in time"
        return subject.missing(why, suggest_words("lock them for a little less than storage.history_keep"))
    return subject.ok(said)


def describe_lock(lock: HistoryLock) -> str:
    """Return whether the history is locked, in words."""
    if lock.is_locked is None:
        return f"not known: {lock.why}"
    if not lock.is_locked:
        return "no rule locks the history: whoever has the access key can remove it"
    return f"what is written into the history is locked {_format_lock(lock)}"


def _format_lock(lock: HistoryLock) -> str:
    return "for ever" if lock.for_s is None or isinf(lock.for_s) else f"for {format_duration(lock.for_s)}"


def check_bucket_clock(facts: BucketFacts) -> Check:
    """Return whether the store's clock agrees with this machine's: moments are typed by one and kept by the other."""
    ahead_s, subject = facts.clock_ahead_s, should("objects_clock")
    if ahead_s is None:
        return subject.unmeasured("the store's answer has no time")
    if abs(ahead_s) > SKEW_SHOWN_S:
        word = "ahead of" if ahead_s > 0 else "behind"
        why = f"the store's clock is {abs(ahead_s):.0f} s {word} this machine's"
        return subject.missing(why, suggest_line("timedatectl set-ntp true", "or as this machine sets its clock"))
    if (slack_s := facts.clock_slack_s) > SKEW_SHOWN_S:
        return subject.unmeasured(f"the store's answers take too long: its clock may be up to {slack_s:.0f} s off")
    return subject.ok("the store's clock and this machine's agree")


def name_missing_key(environment: str) -> Check:
    """Return that the bucket cannot be asked: no access key is set up."""
    why = "no access key of the bucket is set up: its objects cannot be brought back from here"
    hint = parse_hint("name one in storage.credentials_env: docs/objects.md", environment)
    return should("objects").not_set_up(why, hint)
