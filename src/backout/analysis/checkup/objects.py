"""The check of the application's bucket: whether its objects could be brought back; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.checkup import must, should
from backout.model.clock import format_duration
from backout.model.hint import parse_hint, suggest_command

if TYPE_CHECKING:
    from backout.model.checkup import Check
    from backout.model.objects.checks import BucketFacts

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
) -> Check:
    """Return whether what the objects were before is kept.

    Args:
        snapshot_age_s: the age of the newest snapshot, None without one.
        takes_snapshots: a bucket for them is set up.
        every_s: how often one is due.
        must_be_kept: a deployment is to be made, after which objects may have to be brought back.
    """
    subject, look = must("objects", when=must_be_kept), suggest_command("objects check", environment)
    if takes_snapshots:
        take = suggest_command("objects snapshot", environment)
        if snapshot_age_s is None:
            return subject.missing("no snapshot of the bucket was taken yet", take)
        age = format_duration(snapshot_age_s)
        if snapshot_age_s > every_s * _LATE:
            return subject.missing(f"the newest snapshot of the bucket is {age} old", take)
        return subject.ok(f"the newest snapshot of the bucket is {age} old")
    if facts.versioning == "enabled":
        kept_s = facts.expires_after_s
        kept = "" if kept_s is None else f", for {format_duration(kept_s)}"
        return subject.ok(f"the bucket keeps versions{kept}")
    if facts.versioning == "unknown":
        return subject.unmeasured("the access key may not ask whether the bucket keeps versions", look)
    why = f"the bucket's versions are {facts.versioning}: an object that is overwritten or deleted is lost"
    return subject.missing(why, look)


def name_missing_key(environment: str) -> Check:
    """Return that the bucket cannot be asked: no access key is set up."""
    why = "no access key of the bucket is set up: its objects cannot be brought back from here"
    hint = parse_hint("name one in storage.credentials_env: docs/objects.md", environment)
    return should("objects").not_set_up(why, hint)
