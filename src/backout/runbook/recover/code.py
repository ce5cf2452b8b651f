"""The code and the secrets of a recovery: the version of then, and the secrets that it needs and that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import is_same_hash
from backout.analysis.history.stability import list_candidates
from backout.errors import BackoutError, Refused
from backout.plan.recovery import CodeChange, make_quarantine
from backout.rules import SafetyRule
from backout.runbook.observe import add_details
from backout.runbook.rollback.reupload import read_bundle
from backout.runbook.safety.clock import find_target_version

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.plan import Json
    from backout.model.situation import Situation
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox


def choose_code(
    tools: Toolbox, situation: Situation, moment: str, *, with_code: bool, with_secrets: bool, with_database: bool
) -> tuple[CodeChange, tuple[str, ...]]:
    """Return what is to be live, and why, in sentences.

    Args:
        moment: as a person types it.
        with_database: the database goes back first, so its schema is no obstacle.

    Raises:
        UsageError: it is not known what was live then.
        Refused: a rule forbids that version, its code is not to be had, or a secret that it needs is.
    """
    live = situation.live
    leaving = live.main
    version = find_target_version(tools, moment, situation) if with_code else leaving
    notes = []
    if version != leaving:
        notes.append(_judge(tools, situation, version, secrets_come=with_secrets, schema_comes=with_database))
    target, left = tools.versions.detail(version), tools.versions.detail(leaving)
    secrets, source, described, more = _choose_secrets(tools, target, left, with_secrets=with_secrets)
    notes += more
    uploads, force = version != leaving or bool(secrets), False
    if uploads:
        try:
            read_bundle(tools, version)
        except BackoutError as error:
            if secrets:
                raise
            uploads, force = False, True
            notes.append(f"its own secret values come back with version {version[:8]}: {error.what}")
    bad = None
    if version != leaving and not is_same_hash(target.code_hash, left.code_hash):
        bad = make_quarantine(leaving, left.code_hash, left.git_sha, f"left by the recovery to {moment}")
    change = CodeChange(live.id, leaving, version, uploads, secrets, source, described, bad, force)
    return change, tuple(notes)


def _judge(tools: Toolbox, situation: Situation, version: str, *, secrets_come: bool, schema_comes: bool) -> str:
    """Return what speaks for a version. Raises Refused: a rule forbids it."""
    known = add_details(tools, situation, [version])
    ranked = list_candidates(known, leaving=situation.live.main, accept_unproven=True, schema_goes_back=schema_comes)
    wanted = next((each for each in ranked if each.version == version), None)
    if wanted is None:
        raise Refused(
            f"version {version}, which was live then, can no longer be deployed",
            where=tools.environment,
            rule=SafetyRule.TARGET,
            options=("Leave the code: `--only` with the other parts; then deploy it.",),
        )
    come: dict[str, str] = {SafetyRule.SAME_CODE: "its configuration is that of then"}
    if secrets_come:
        come[SafetyRule.SECRETS] = "they are set with it"
    if not wanted.eligible and wanted.rule not in come:
        raise Refused(
            f"version {version}, which was live then, may not be returned to: {wanted.reason}",
            where=tools.environment,
            rule=wanted.rule,
            options=("Choose another moment, or leave the code: `--only` with the other parts.",),
        )
    if not wanted.eligible:
        return f"target {version}: it was live then; {wanted.reason}, and {come[wanted.rule]}"
    return f"target {version}: {wanted.reason or 'it was live then'}"


def _choose_secrets(
    tools: Toolbox, target: Version, left: Version, *, with_secrets: bool
) -> tuple[dict[str, str], dict[str, Json], str, list[str]]:
    """Return the fingerprints of what is set with the code, the source, the same in words, and notes."""
    needed, there = set(target.secret_names), set(left.secret_names)
    pushing = tools.pushing() if tools.pushing is not None and with_secrets else None
    if pushing is not None:
        expected = pushing.expected()
        needed |= {*expected.example, *expected.required} - set(pushing.own)
    missing = sorted(needed - there)
    if not missing:
        return {}, {}, "", []
    if pushing is None or pushing.configured is None:
        _refuse_missing(tools, set(missing) & set(target.secret_names), "no source of secrets is configured")
        return {}, {}, "", [f"missing, and not set: {', '.join(missing)}"]
    source = pushing.opened(pushing.configured)
    values = source.read(missing)
    lacking = [name for name in missing if name not in values.names]
    _refuse_missing(tools, set(lacking) & set(target.secret_names), f"{source.described} does not hold them")
    notes = [f"missing, and not in {source.described}: {', '.join(lacking)}"] if lacking else []
    marks = {name: pushing.fingerprints.of(name, values.reveal(name)) for name in values.names}
    return marks, dict(pushing.configured), source.described, notes


def _refuse_missing(tools: Toolbox, names: Collection[str], why: str) -> None:
    if names:
        raise Refused(
            f"the code of then needs secrets that are gone: {', '.join(sorted(names))}; {why}",
            where=tools.environment,
            rule=SafetyRule.SECRETS,
            options=(f"Set them: `backout secrets put NAME -e {tools.environment}`; then the same command again.",),
        )
