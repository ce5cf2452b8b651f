"""Look back at the watches of an environment: from the journal, completed from the provider and the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.hindsight.track_record import Case, Past, TrackRecord, Watched, list_cases, make_track_record
from backout.analysis.history.remarks import list_marks, list_of_application, merge_marks
from backout.errors import BackoutError
from backout.model.deployment import Deployment, DeploymentId, Share
from backout.model.guard.signals import sum_counts
from backout.model.plan import PlanKind
from backout.model.remark import Remark, RemarkKind
from backout.model.steps.guard import ConcludeAction, ConcludeStep, WatchStep
from backout.model.steps.rollback import ActivateStep
from backout.model.version import VersionId
from backout.ports import find_result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backout.model.guard.signals import Counts
    from backout.model.incident.incident import Run
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox


def look_back(tools: Toolbox, last: int | None = None) -> TrackRecord:
    """Return the results of the last watches (None: all of them); it only reads."""
    runs = tools.runs.runs(tools.environment)
    switched = {run.plan.cause for run in _list_rollbacks(runs) if tools.runs.result(run.id, "activate") is not None}
    found = [watch for run in runs if (watch := _find_watched(tools, run, switched)) is not None][:last]
    watches = sorted(found, key=lambda watch: watch.decided_at)
    past, notes = read_past(tools, runs)
    told = [_add_counts(tools, case) for case in list_cases(watches, past)]
    return replace(make_track_record(tools.environment, tools.policy.guard.mode, watches, told, past), notes=notes)


def _list_rollbacks(runs: Iterable[Run]) -> Iterator[Run]:
    return (run for run in runs if run.plan.kind is PlanKind.ROLLBACK)


def _find_watched(tools: Toolbox, run: Run, switched: set[str]) -> Watched | None:
    """Return a finished watch; None for every other run."""
    if run.plan.kind is not PlanKind.GUARD or not run.state.is_over:
        return None
    watched, concluded = find_result(tools.runs, run.id, WatchStep), find_result(tools.runs, run.id, ConcludeStep)
    if watched is None:
        return None
    args, decision = run.plan.arguments(WatchStep), watched.decision
    void = watched.moved or (concluded is not None and concluded.action is ConcludeAction.VOID)
    return Watched(
        run=run.id,
        mode=run.plan.arguments(ConcludeStep).mode,
        deployment=args.deployment,
        version=args.version,
        since=args.since,
        verdict="void" if void else str(decision.verdict),
        decided_at=decision.at,
        first_bad_at=decision.first_bad_at,
        reason=decision.reason,
        action=concluded.action if concluded is not None else "",
        rule=concluded.rule if concluded is not None else "",
        switched=run.id in switched,
    )


def read_past(tools: Toolbox, runs: Sequence[Run]) -> tuple[Past, tuple[str, ...]]:
    """Return the context of the watches, and what could not be read; a provider lists only its newest deployments."""
    notes: tuple[str, ...] = ()
    listed: tuple[Deployment, ...] = ()
    versions: tuple[Version, ...] = ()
    try:
        listed, versions = tools.deployments.history(), tools.versions.recent()
    except BackoutError as error:
        notes = (f"the provider's history could not be read, so this is based on the journal alone: {error}",)
    known = {deployment.id: deployment for deployment in _list_journalled(tools, runs)}
    known |= {deployment.id: deployment for deployment in list_of_application(listed)}
    past = Past(
        deployments=tuple(sorted(known.values(), key=lambda deployment: deployment.created_at)),
        built={version.id: version.created_at for version in versions},
        marks=merge_marks(tools.marks.marks(tools.environment), list_marks(listed, versions)),
        now=tools.clock.now(),
        typed=frozenset(_list_typed(listed, runs)),
    )
    return past, notes


def _list_typed(listed: Sequence[Deployment], runs: Iterable[Run]) -> Iterator[str]:
    """Yield the rollbacks that people typed, here and on other machines, as far as they are known."""
    yield from (run.id for run in _list_rollbacks(runs) if not run.plan.cause)
    remarks = (deployment.remark for deployment in listed)
    yield from (r.run for r in remarks if r is not None and r.kind is RemarkKind.ROLLBACK and not r.auto)


def _list_journalled(tools: Toolbox, runs: Iterable[Run]) -> Iterator[Deployment]:
    """Yield the deployments that the journal saw: those that were watched, and those that rollbacks made."""
    for run in runs:
        if run.plan.kind is PlanKind.GUARD:
            args = run.plan.arguments(WatchStep)
            shares = {args.version: args.split, args.old: 0.0}
            yield _make_deployment(args.deployment, args.deployed_at or args.since, shares)
        elif run.plan.kind is PlanKind.ROLLBACK:
            made = find_result(tools.runs, run.id, ActivateStep)
            if made is not None:
                remark = Remark(RemarkKind.ROLLBACK, run.id, auto=bool(run.plan.cause))
                yield _make_deployment(made.deployment, made.at, {made.version: 1.0}, remark)


def _make_deployment(name: str, at: float, shares: dict[str, float], remark: Remark | None = None) -> Deployment:
    """Return a deployment; the second of two versions has the rest of the traffic."""
    first, *rest = shares.items()
    left = 1.0 - first[1]
    pairs = [first, *((version, left) for version, _ in rest if version and left > 0)]
    shared = tuple(Share(VersionId(version), 100 * share) for version, share in pairs)
    return Deployment(DeploymentId(name), at, shared, str(remark or ""), claim=remark)


def _add_counts(tools: Toolbox, case: Case) -> Case:
    """Return the case with the answers of its version after the verdict, as far as they were counted."""
    own = read_rows(tools, case.watch.version, case.watch.decided_at, case.until)
    if not own:
        return case
    requests, errors = sum_counts(own)
    return replace(case, requests=requests, errors=errors)


def read_rows(tools: Toolbox, version: str, since: float, until: float) -> list[Counts]:
    """Return the answers of a version between two times, as far as they were stored or the source still has them."""
    first, last = int(since), int(until) + 1
    rows = {(row.version, row.second): row for row in tools.counts.load_counts(tools.environment, first, last)}
    if tools.traffic is not None:
        try:
            page = tools.traffic.read(first, last)
        except BackoutError:
            page = None
        if page is not None:
            rows |= {(row.version, row.second): row for row in page.counts}
    return [row for row in rows.values() if row.version == version]
