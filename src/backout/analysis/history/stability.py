"""The versions that may be returned to, best first, and why not the others; pure.

"Stable" is stricter here than anywhere else: its watch ended healthy, it is not quarantined, its code differs from the
version being left, its schema needs are met, and its secrets resolve.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from backout.analysis.history.failed_proof import describe_failed_proof, find_failed_proof
from backout.analysis.history.remarks import is_made_by, is_same_commit, is_same_hash, is_same_version
from backout.analysis.recovery.fit import does_not_fit
from backout.escaping import shorten
from backout.model.clock import to_utc
from backout.model.remark import RemarkKind
from backout.model.value import Value
from backout.model.version import Mark, Version, VersionId, VersionMark
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.database.schema import AppliedMigration
    from backout.model.situation import Situation

LIVED_WITH_S = 900.0
"""A version that was live this long after a migration has shown that it can live with it (the runbook's watch)."""


class Candidate(Value, frozen=True):
    """One version that could be returned to.

    Args:
        eligible: whether it may be chosen now.
        rule: the safety rule that forbids it ("" when eligible).
        reason: one sentence.
        proven: its watch ended healthy.
        last_live_at: Unix seconds when it last had traffic, 0 when never.
        kept: the provider no longer deploys it; it is uploaded again from the copy kept here.
        newer: the migrations since it was last live, each judged safe for it where it is eligible.
        failed: its last proof in words, where that failed; it is tried behind the others then. "" otherwise.
    """

    version: VersionId
    eligible: bool
    rule: str
    reason: str
    proven: bool
    last_live_at: float
    kept: bool = False
    newer: tuple[str, ...] = ()
    failed: str = ""


class _Case(Value, frozen=True):
    """One version and its facts: when it was live, its mark, and the question asked."""

    version: Version
    span: LiveSpan | None
    stable: VersionMark | None
    left_hash: str | None
    force_schema: str
    schema_goes_back: bool


class LiveSpan(Value, frozen=True):
    """The time in which a version had traffic; `last_until` is now for a live one."""

    first_from: float
    last_until: float


def find_live_spans(situation: Situation) -> dict[VersionId, LiveSpan]:
    """Return when each version of the history had traffic. A 0 % share is not live."""
    spans: dict[VersionId, LiveSpan] = {}
    until = situation.read_at
    for deployment in situation.history:
        for share in deployment.shares:
            if deployment.serves(share.version):
                known = spans.get(share.version)
                spans[share.version] = LiveSpan(deployment.created_at, known.last_until if known else until)
        until = deployment.created_at
    return spans


def returns(situation: Situation, version: str, old: str) -> bool:
    """Whether making `version` live in place of `old` leads back: it had traffic, or was uploaded, before that one.

    That was a decision to leave `old`, whatever it was marked as.
    """
    spans = find_live_spans(situation)
    new_span, old_span = spans.get(VersionId(version)), spans.get(VersionId(old))
    if new_span is not None and old_span is not None and new_span.first_from < old_span.first_from:
        return True
    new, before = situation.version(version), situation.version(old)
    return new is not None and before is not None and new.number < before.number


def find_newcomer(situation: Situation, *, apart_from: str | None = None, with_cohorts: bool = True) -> VersionId:
    """Return the version with traffic that came last: in a split the one on trial, however large its share has become.

    A 0 % share is not live. Where several came at once, the newest build is the newcomer.

    Args:
        apart_from: a version that it is not.
        with_cohorts: what serves a cohort alone counts as well.
    """
    live = situation.live
    found = [s.version for s in live.shares if s.percentage > 0 or (with_cohorts and live.serves(s.version))]
    serving = [version for version in found if version != apart_from]

    # A step of a ramp brings no version; a holdback brings one back that was there before.
    brought = [deployment for deployment in situation.history if not is_made_by(deployment, RemarkKind.RAMP)]

    def came_last(version: VersionId) -> tuple[bool, int, int]:
        known = situation.version(version)
        since = sum(1 for _ in takewhile(lambda d: d.serves(version), brought))
        return bool(brought) and not since, since, -(known.number if known else 0)

    return min(serving, key=came_last, default=live.main)


def find_quarantine(situation: Situation, version: str, code_hash: str | None) -> VersionMark | None:
    """Return the mark that quarantines this version or its code (a re-upload, a rebuild of the commit), or None.

    A version whose own watch ended healthy is not judged by what another build of its commit did.
    """
    known = situation.version(version)
    git_sha = known.git_sha if known and find_stable_mark(situation, version) is None else ""
    return find_quarantine_in(situation.marks, version, code_hash, git_sha)


def find_quarantine_by_name(marks: Sequence[VersionMark], name: str) -> VersionMark | None:
    """Return the mark that quarantines the version of this id, or whatever is built from this commit, or None."""
    return find_quarantine_in(marks, name, None, name)


def list_in_force(marks: Sequence[VersionMark]) -> tuple[VersionMark, ...]:
    """Return the quarantines that were not lifted, oldest first."""
    return tuple(
        mark
        for mark in marks
        if mark.mark is Mark.QUARANTINED
        and find_quarantine_in(marks, mark.version, mark.code_hash, mark.git_sha) is not None
    )


def find_quarantine_in(
    marks: Sequence[VersionMark], version: str, code_hash: str | None, git_sha: str
) -> VersionMark | None:
    """Return the newest mark on this version or code when it is a quarantine; the provider shows first digits only."""
    for mark in reversed(marks):
        same = is_same_version(mark.version, version) or is_same_hash(mark.code_hash, code_hash)
        if mark.mark in (Mark.QUARANTINED, Mark.RELEASED) and (same or is_same_commit(mark.git_sha, git_sha)):
            return mark if mark.mark is Mark.QUARANTINED else None
    return None


def find_stable_mark(situation: Situation, version: str) -> VersionMark | None:
    """Return the latest mark saying that a watch of this version ended healthy, or None; a question cancels it."""
    known, newest = situation.version(version), _find_newest_proof(situation.marks, version)
    if known is not None and known.is_maintenance:
        return None
    return newest if newest is not None and newest.mark is Mark.STABLE else None


def find_questioned(marks: Sequence[VersionMark], version: str) -> VersionMark | None:
    """Return the mark saying that what made a version stable was contradicted since, or None."""
    newest = _find_newest_proof(marks, version)
    return newest if newest is not None and newest.mark is Mark.QUESTIONED else None


def _find_newest_proof(marks: Sequence[VersionMark], version: str) -> VersionMark | None:
    said = (mark for mark in reversed(marks) if mark.mark in (Mark.STABLE, Mark.QUESTIONED))
    return next((mark for mark in said if is_same_version(mark.version, version)), None)


def list_candidates(
    situation: Situation,
    *,
    leaving: str,
    accept_unproven: bool = False,
    force_schema: str = "",
    schema_goes_back: bool = False,
    by_robot: bool = False,
) -> tuple[Candidate, ...]:
    """Return every version but the one being left, best first: proven, its last proof not failed, lately live.

    Args:
        leaving: the version to get away from.
        accept_unproven: a person (or the policy) accepts versions without proof.
        force_schema: the migration head that a person declared compatible; anything else does not count.
        schema_goes_back: the database is restored to before what the version does not know, first.
        by_robot: no person typed this. Only a person may choose a questioned version, whatever is accepted.
    """
    spans = find_live_spans(situation)
    left = situation.version(leaving)
    left_hash = left.code_hash if left else None
    found = []
    for version in (*situation.versions, *situation.kept):
        if version.id == leaving:
            continue
        stable = find_stable_mark(situation, version.id)
        span = spans.get(version.id)
        last_live_at = span.last_until if span else (stable.at if stable else 0.0)
        case = _Case(version, span, stable, left_hash, force_schema, schema_goes_back)
        rule, reason = _find_objection(situation, case)
        doubted = find_questioned(situation.marks, version.id)
        if not rule and doubted is not None and (by_robot or not accept_unproven):
            rule = SafetyRule.QUESTIONED
            reason = f"it was marked stable, which has been questioned since {_format_clock(doubted.at)}: {doubted.why}"
        if not rule and stable is None and not accept_unproven:
            rule, reason = SafetyRule.UNPROVEN, "no watch of it ever ended healthy"
        if not rule and span is None and stable is None:
            reason = "it was never live as far as the provider's history reaches"
        found.append(
            Candidate(
                version.id,
                not rule,
                rule,
                reason or _describe_stable(stable, span),
                stable is not None,
                last_live_at,
                kept=version in situation.kept,
                newer=tuple(m.name for m in _list_newer_migrations(situation, case)),
                failed=describe_recent_failure(situation, version.id),
            )
        )
    return tuple(sorted(found, key=lambda c: (not c.proven, bool(c.failed), -c.last_live_at)))


def choose_target(ranked: Sequence[Candidate]) -> Candidate | None:
    """Return what a rollback without a named target goes to, None when it is refused.

    A version that never had traffic is no target, even where unproven versions are accepted; a person may name it.
    """
    return next((each for each in ranked if each.eligible and each.last_live_at > 0), None)


def describe_recent_failure(situation: Situation, version: str) -> str:
    """Return the last proof of a version in words, where that failed and nothing better is known since; else ""."""
    if version not in situation.failed_proofs:
        return ""
    stable, span = find_stable_mark(situation, version), find_live_spans(situation).get(VersionId(version))
    stable_at, live_until = (stable.at if stable else 0.0), (span.last_until if span else 0.0)
    proof = find_failed_proof(situation.failed_proofs, version, stable_at=stable_at, live_until=live_until)
    return describe_failed_proof(proof) if proof is not None else ""


def _find_objection(situation: Situation, case: _Case) -> tuple[str, str]:
    """Return (rule, reason) of the first rule that forbids this version, or ("", "")."""
    if case.version.is_maintenance:
        return SafetyRule.TARGET, "it is a maintenance version, which answers 503 to everything"
    if case.version.damage:
        return SafetyRule.TARGET, case.version.damage
    code_hash = case.version.code_hash or (case.stable.code_hash if case.stable else None)
    bad = find_quarantine(situation, case.version.id, code_hash)
    if bad is not None:
        return SafetyRule.QUARANTINED, f"it is quarantined since {_format_clock(bad.at)}: {shorten(bad.why)}"
    number = _find_first_number(situation, case.version, code_hash)
    if number < situation.minimum_version:
        least = situation.minimum_version
        return SafetyRule.MINIMUM, f"its code is that of version number {number}, and guard.minimum_version is {least}"
    if is_same_hash(case.left_hash, code_hash):
        return (
            SafetyRule.SAME_CODE,
            "it has the same code as the version being left; only configuration or secrets differ",
        )
    schema = _find_schema_objection(situation, case)
    if schema:
        return SafetyRule.SCHEMA, schema
    missing = _list_missing_secrets(situation, case.version)
    if missing:
        return SafetyRule.SECRETS, f"it needs secrets that are gone: {', '.join(missing)}"
    return "", ""


def _find_first_number(situation: Situation, version: Version, code_hash: str | None) -> int:
    """Return the number under which a version's code was first uploaded, as far as that is known."""
    known = (v for v in (*situation.versions, *situation.kept) if is_same_hash(v.code_hash, code_hash))
    return min((v.number for v in known), default=version.number)


def _find_schema_objection(situation: Situation, case: _Case) -> str:
    look = situation.schema
    if not look.set_up or case.schema_goes_back:
        return ""
    if case.force_schema and case.force_schema == name_schema(situation):
        return ""
    if look.state is None:
        return f"the migration head cannot be read ({look.problem}), so it is unknown whether the old code fits"
    if look.state.failed:
        return f"migration {look.state.failed[-1]} failed half-way; code alone must not be rolled back over it"
    return does_not_fit(look, _list_newer_migrations(situation, case), case.version.id)


def name_schema(situation: Situation) -> str:
    """Return what a person must name to declare the schema compatible: the failed migration, else the head."""
    state = situation.schema.state
    if state is None:
        return "unknown"
    return state.failed[-1] if state.failed else (state.head or "none")


def _list_newer_migrations(situation: Situation, case: _Case) -> tuple[AppliedMigration, ...]:
    """Return the changes of the schema that the version's code never showed it can live with, oldest first."""
    state = situation.schema.state
    return tuple(m for m in state.applied if _is_news(m, case, state.head)) if state is not None else ()


def _is_news(migration: AppliedMigration, case: _Case, head: str) -> bool:
    changed = get_changed_at(migration)
    if changed <= case.version.created_at:
        return False
    stable = case.stable
    if stable is not None and (stable.at >= changed or stable.migration_head == head):
        return False
    lived_until = case.span.last_until if case.span else 0.0
    return lived_until - changed < LIVED_WITH_S


def get_changed_at(migration: AppliedMigration) -> float:
    """Return when the migration last changed the schema, Unix seconds; 0 while it has not finished."""
    return max(migration.finished_at or 0.0, migration.rolled_back_at or 0.0)


def _list_missing_secrets(situation: Situation, version: Version) -> tuple[str, ...]:
    if situation.secret_names is None:
        return ()
    return tuple(sorted(set(version.secret_names) - set(situation.secret_names)))


def _describe_stable(stable: VersionMark | None, span: LiveSpan | None) -> str:
    if stable is not None:
        return f"proven stable at {_format_clock(stable.at)} ({shorten(stable.why)})"
    if span is not None:
        return f"UNPROVEN: live until {_format_clock(span.last_until)}, but no watch of it ever ended healthy"
    return "UNPROVEN: it was never live as far as the provider's history reaches"


def _format_clock(at: float) -> str:
    return to_utc(at).strftime("%Y-%m-%d %H:%M:%SZ")
