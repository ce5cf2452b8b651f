"""What is known against a version or commit before it is deployed, and a person's release of it (rule 17)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backout.analysis.history.stability import find_quarantine, find_quarantine_by_name
from backout.errors import UsageError
from backout.model.remark import SHA_DIGITS, Code, Remark, RemarkKind
from backout.model.value import Value
from backout.model.version import Mark, VersionMark
from backout.plan.target import is_time, match_versions
from backout.runbook.observe import add_details, observe
from backout.runbook.rollback.remarks import Told, tell_provider
from backout.runbook.safety.clock import find_target_version

if TYPE_CHECKING:
    from backout.model.situation import Situation
    from backout.model.version import VersionId
    from backout.runbook.toolbox import Toolbox

_COMMIT = re.compile(rf"[0-9a-fA-F-]{{{SHA_DIGITS},40}}")
_AFTER_S = 0.001
"""A release comes after what it lifts, whatever the clocks of the machines say."""


class Standing(Value, frozen=True):
    """The standing of a version or commit.

    Args:
        versions: what the name means among those that the provider still knows.
        bad: the quarantine in force, or None.
        unread: those of the versions whose code could not be read.
    """

    situation: Situation
    versions: tuple[VersionId, ...]
    bad: VersionMark | None
    unread: tuple[VersionId, ...]


def find_standing(tools: Toolbox, text: str) -> Standing:
    """Return the standing of what a person or pipeline names: a version as everywhere, or a commit never built.

    Raises:
        UsageError: it names no version and does not look like a commit.
    """
    situation = observe(tools)
    found = match_versions(text, situation)
    if not found and is_time(text, situation):
        found = {find_target_version(tools, text, situation)}
    if not found and not _COMMIT.fullmatch(text):
        raise UsageError(f"no version, deployment or commit is named '{text}'", hint="backout deployments list")
    versions = tuple(sorted(found))
    situation = add_details(tools, situation, versions)
    known = {version: situation.version(version) for version in versions}
    if len({each.git_sha if each else version for version, each in known.items()}) > 1:
        raise UsageError(f"'{text}' is ambiguous: it matches versions {', '.join(versions)}", hint="type more of it")
    hashes = {version: each.code_hash if each else None for version, each in known.items()}
    marks = [find_quarantine(situation, version, code_hash) for version, code_hash in hashes.items()]
    marks.append(find_quarantine_by_name(situation.marks, text))
    bad = max((mark for mark in marks if mark is not None), key=lambda mark: mark.at, default=None)
    return Standing(situation, versions, bad, tuple(v for v, code_hash in hashes.items() if code_hash is None))


def release(tools: Toolbox, situation: Situation, bad: VersionMark, why: str) -> Told:
    """Lift a quarantine, for the version and for its code: at the provider, then in the journal."""
    remark = Remark(RemarkKind.RELEASE, code=Code.of_mark(bad), text=why)
    told = tell_provider(tools, remark, situation.live.id) if tools.provider_marks else Told()
    at = told.deployment.created_at if told.deployment else tools.clock.now()
    lifted = VersionMark(
        Mark.RELEASED,
        bad.version,
        bad.code_hash,
        max(at, bad.at + _AFTER_S),
        "",
        why,
        git_sha=bad.git_sha,
        by=tools.actor,
    )
    tools.marks.mark(tools.environment, lifted, actor=tools.actor)
    return told
