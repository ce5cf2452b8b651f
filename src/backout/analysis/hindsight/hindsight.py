"""What today's detector would have done with each past deployment, and whether that would have been right; pure."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from backout.analysis.hindsight.track_record import WITHIN_S, find_first_seen, is_automatic, went_back
from backout.analysis.history.remarks import is_made_by, is_same_hash, is_same_version
from backout.escaping import shorten
from backout.model.remark import RemarkKind
from backout.model.value import Value
from backout.model.version import Mark

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from backout.analysis.hindsight.track_record import Past
    from backout.model.deployment import Deployment


class Trial(Value, frozen=True):
    """One past deployment of a version that was new.

    Args:
        old: the version that it took traffic from, "" when none is known.
        split: its share, in (0, 1].
        left_at: when the version stopped being live, None while it is.
        until: the end of what is judged.
    """

    deployment: str
    version: str
    old: str
    split: float
    at: float
    until: float
    left_at: float | None


class Truth(StrEnum):
    """What people's actions and statements show about a version; never what the detector on trial says.

    A quarantine after guard's own rollback, and a stable mark after guard's own watch, are that detector's word.
    """

    BAD = "bad"
    GOOD = "good"
    UNKNOWN = "unknown"


class Judged(Value, frozen=True):
    """One trial and its outcome.

    Args:
        truth, why: what is known of the version, and the source.
        counted: whether its requests were kept at all.
        rolled_back_at, reason: when today's detector would have rolled it back and why, None: it would not have.
        saved: bad requests that were counted after that moment; None when it would not have.
    """

    trial: Trial
    truth: Truth
    why: str
    counted: bool
    rolled_back_at: float | None = None
    reason: str = ""
    saved: int | None = None


class Hindsight(Value, frozen=True):
    """All trials since a time; `notes` list what is unknown, in whole sentences without a final stop."""

    environment: str
    since: float
    judged: tuple[Judged, ...]
    notes: tuple[str, ...] = ()

    @property
    def counted(self) -> tuple[Judged, ...]:
        """The trials whose requests were kept."""
        return tuple(each for each in self.judged if each.counted)

    @property
    def rolled_back(self) -> tuple[Judged, ...]:
        """The trials that would have been rolled back."""
        return tuple(each for each in self.counted if each.rolled_back_at is not None)

    @property
    def missed(self) -> tuple[Judged, ...]:
        """The bad versions that would have been left."""
        return tuple(each for each in self.counted if each.rolled_back_at is None and each.truth is Truth.BAD)

    @property
    def saved(self) -> int:
        """Bad requests that would not have been served."""
        return sum(each.saved or 0 for each in self.rolled_back)


def list_trials(past: Past, *, since: float, watch_s: float, watched: Container[str] = ()) -> Iterator[Trial]:
    """Yield the deployments that brought a version, oldest first; returns to an older one do not count.

    A version that gets more traffic later, step by step, is one trial that begins with its first share.

    Args:
        watched: deployments that a guard watched: they brought a version, however old that is.
    """
    for number, (before, after) in enumerate(pairwise([None, *past.deployments])):
        assert after is not None
        version = _find_brought(before, after, past, watched)
        if after.created_at < since or not version:
            continue
        later = past.deployments[number + 1 :]
        left_at = next((d.created_at for d in later if not d.serves(version)), None)
        changed_at = next((d.created_at for d in later), past.now)
        share = next(s.percentage for s in after.shares if s.version == version) / 100
        yield Trial(
            deployment=after.id,
            version=version,
            old=_find_compared_version(before, after, version),
            split=share,
            at=after.created_at,
            until=min(changed_at, after.created_at + watch_s, past.now),
            left_at=left_at,
        )


def _find_brought(before: Deployment | None, after: Deployment, past: Past, watched: Container[str]) -> str:
    """Return the version that had no traffic before, "" when there is none or it is a return."""
    new = [s.version for s in after.shares if s.percentage > 0 and not (before and before.serves(s.version))]
    if not new or is_made_by(after, RemarkKind.ROLLBACK):
        return ""
    if before is not None and after.id not in watched and went_back(after, before.main, past):
        return ""
    return str(max(new, key=lambda version: find_first_seen(version, past)))


def _find_compared_version(before: Deployment | None, after: Deployment, version: str) -> str:
    beside = (s.version for s in after.shares if s.percentage > 0 and s.version != version)
    earlier = (s.version for s in (before.shares if before else ()) if s.percentage > 0 and s.version != version)
    return str(next(beside, next(earlier, "")))


def find_truth(trial: Trial, past: Past, code_hash: str | None = None) -> tuple[Truth, str]:
    """Return what is known of a trial's version, and from where.

    The newest mark of a person speaks first; else a version that a person rolled back soon was bad, and one that lived
    for a day good.
    """
    for mark in reversed(past.marks):
        same = is_same_version(mark.version, trial.version) or is_same_hash(mark.code_hash, code_hash)
        if not same or mark.at < trial.at or not past.is_by_a_person(mark):
            continue
        if mark.mark is Mark.QUARANTINED:
            return Truth.BAD, f"quarantined: {shorten(mark.why)}"
        if mark.mark is Mark.RELEASED:
            return Truth.GOOD, f"its quarantine was lifted: {shorten(mark.why)}"
        if mark.mark is Mark.QUESTIONED:
            continue
        return Truth.GOOD, "marked stable"
    left = next((d for d in past.deployments if d.created_at == trial.left_at), None)
    if left is not None and left.created_at <= trial.at + WITHIN_S:
        if is_automatic(left):
            return Truth.UNKNOWN, "guard rolled it back itself, and whether that was right was never recorded"
        if went_back(left, trial.version, past):
            return Truth.BAD, "rolled back by a person"
        return Truth.UNKNOWN, "a newer version replaced it before it was marked"
    if past.now - trial.at >= WITHIN_S:
        return Truth.GOOD, "it stayed live for a day"
    return Truth.UNKNOWN, "it has been live for less than a day and is not marked"
