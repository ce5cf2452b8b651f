"""Observe: one look at an environment, as a Situation. It reads and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.history.remarks import drop_remarks, list_marks, list_of_application, merge_marks
from backout.analysis.history.stability import get_changed_at
from backout.analysis.recovery.fit import find_verdicts
from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable, Refused, Unmeasured
from backout.model.situation import SchemaLook, Situation
from backout.rules import SafetyRule
from backout.runbook.certify.way_back import heed_trials
from backout.runbook.probing.failed_proofs import list_failed_proofs
from backout.runbook.rollback.statement_replay import find_refuting_statement
from backout.runbook.safety.clock import measure_clock_offset_s

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox


def observe(tools: Toolbox) -> Situation:
    """Return what is live, what could be made live, the marks, the migrations and the names of the secrets.

    Raises:
        Unmeasured: the application has no deployment.
        AuthError, ProviderUnavailable: as the platform's ports.
    """
    history = tools.deployments.history()
    if not history:
        raise Unmeasured("nothing was ever deployed here", where=tools.environment, hint="deploy once, then try again")
    versions = tools.versions.recent()
    kept = _list_kept(tools, [version.id for version in versions])
    situation = Situation(
        environment=tools.environment,
        read_at=tools.clock.now(),
        history=drop_remarks(history),
        listed=history,
        versions=versions,
        kept=kept,
        marks=merge_marks(tools.marks.marks(tools.environment), list_marks(history, versions)),
        schema=look_at_schema(tools, since=min((v.created_at for v in (*versions, *kept)), default=0.0)),
        secret_names=_read_secret_names(tools),
        clock_offset_s=measure_clock_offset_s(tools),
        minimum_version=tools.policy.guard.minimum_version,
        failed_proofs=list_failed_proofs(tools),
    )
    situation = heed_trials(tools, situation)
    return add_details(tools, situation, [share.version for share in situation.live.shares])


def observe_application(tools: Toolbox) -> Situation:
    """Return the same without maintenance versions in the history: what a watch compares with is the application.

    Raises:
        Refused: a maintenance version is live.
        Unmeasured, AuthError, ProviderUnavailable: as `observe`.
    """
    situation = observe(tools)
    if situation.live.is_maintenance:
        raise Refused(
            f"version {situation.live.main} is a maintenance version: there is nothing to watch while it is live",
            where=tools.environment,
            rule=SafetyRule.TARGET,
            hint=f"backout status -e {tools.environment}",
        )
    return replace(situation, history=list_of_application(situation.history))


def _list_kept(tools: Toolbox, listed: Collection[str]) -> tuple[Version, ...]:
    """Return the versions whose code is kept here in addition to those listed; unreadable ones count as not kept."""
    if tools.rollback.bundle_store is None:
        return ()
    try:
        return tools.rollback.bundle_store.list_versions(apart_from=listed)
    except BackoutError as error:
        tools.say(f"the code that is kept here is of no use: {error}")
        return ()


def look_at_schema(tools: Toolbox, *, since: float = 0.0) -> SchemaLook:
    """Return the migration history, or the reason why it is unknown; never raises for a sick database.

    Verdicts are made only when a migration is younger than `since`: earlier ones concern no version here.
    """
    if tools.rollback.schema is None:
        return SchemaLook(set_up=False)
    try:
        state = tools.rollback.schema.read()
    except (ProviderUnavailable, ProviderRejected, AuthError) as error:
        return SchemaLook(set_up=True, problem=str(error))
    if tools.rollback.migrations is None or not any(get_changed_at(m) > since for m in state.applied):
        return SchemaLook(set_up=True, state=state)
    try:
        files = tools.rollback.migrations.read()
    except BackoutError as error:
        return SchemaLook(set_up=True, state=state, unjudged=str(error))
    verdicts, unjudged = find_verdicts(state, files, app_checks_head=tools.rollback.app_checks_head)
    refuted = find_refuting_statement(tools.journal, tools.environment, state.head)
    return SchemaLook(set_up=True, state=state, verdicts=verdicts, unjudged=unjudged, refuted=refuted)


def _read_secret_names(tools: Toolbox) -> tuple[str, ...] | None:
    if tools.secrets is None:
        return None
    try:
        return tools.secrets.names()
    except (ProviderUnavailable, ProviderRejected):
        return None


def add_details(tools: Toolbox, situation: Situation, versions: Iterable[str]) -> Situation:
    """Return the situation with the details (code hash, secrets, bindings) of these versions filled in.

    Versions that the provider no longer knows stay as they are.
    """
    detailed: dict[str, Version] = {}
    for version in versions:
        known = situation.version(version)
        if known is None or known.code_hash is not None:
            continue
        try:
            detailed[version] = tools.versions.detail(version)
        except ProviderRejected:
            continue
    if not detailed:
        return situation
    return replace(situation, versions=tuple(detailed.get(v.id, v) for v in situation.versions))
