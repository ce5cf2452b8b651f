"""Look back at the watches of an environment: from the journal, completed by what the provider and the counts tell."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backout.analysis.observed import Case, Past, Watched, cases, judged
from backout.analysis.remarks import marks_in, merged, plain_history
from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model.deployment import Deployment, DeploymentId, Share, VersionId
from backout.model.plan import PlanKind
from backout.model.policy import Mode
from backout.model.remark import Remark, RemarkKind
from backout.model.signals import total
from backout.model.verdict import Decision

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backout.analysis.observed import Observed
    from backout.model.deployment import Version
    from backout.model.incident import Run
    from backout.model.plan import Json
    from backout.model.signals import Counts
    from backout.runbook.toolbox import Toolbox


def look_back(tools: Toolbox, last: int | None = None) -> Observed:
    """Return what the last watches came to (None: all of them); it reads and changes nothing."""
    runs = tools.runs.runs(tools.environment)
    switched = {run.plan.cause for run in _rollbacks(runs) if tools.runs.result(run.id, "activate") is not None}
    found = [watch for run in runs if (watch := _watched(tools, run, switched)) is not None][:last]
    watches = sorted(found, key=lambda watch: watch.decided_at)
    past, notes = past_of(tools, runs)
    told = [_counted(tools, case) for case in cases(watches, past)]
    return replace(judged(tools.environment, tools.policy.guard.mode, watches, told, past), notes=notes)


def _rollbacks(runs: Iterable[Run]) -> Iterator[Run]:
    return (run for run in runs if run.plan.kind is PlanKind.ROLLBACK)


def _watched(tools: Toolbox, run: Run, switched: set[str]) -> Watched | None:
    """Return a finished watch; None for every other run."""
    if run.plan.kind is not PlanKind.GUARD or not run.state.is_over:
        return None
    watched, concluded = (_table(tools.runs.result(run.id, action)) for action in ("watch", "conclude"))
    if not watched:
        return None
    args = run.plan.step("watch").args
    decision = decode_values(watched["decision"], Decision)
    void = watched.get("moved") or concluded.get("action") == "void"
    return Watched(
        run=run.id,
        mode=Mode(str(run.plan.step("conclude").args["mode"])),
        deployment=str(args["deployment"]),
        version=str(args["version"]),
        since=float(str(args["since"])),
        verdict="void" if void else str(decision.verdict),
        decided_at=decision.at,
        first_bad_at=decision.first_bad_at,
        reason=decision.reason,
        action=str(concluded.get("action") or ""),
        rule=str(concluded.get("rule") or ""),
        switched=run.id in switched,
    )


def past_of(tools: Toolbox, runs: Sequence[Run]) -> tuple[Past, tuple[str, ...]]:
    """Return what surrounds the watches, and what could not be read; a provider lists its newest deployments only."""
    notes: tuple[str, ...] = ()
    listed: tuple[Deployment, ...] = ()
    versions: tuple[Version, ...] = ()
    try:
        listed, versions = tools.deployments.history(), tools.versions.recent()
    except BackoutError as error:
        notes = (f"the provider's history could not be read, so this is told from the journal alone: {error}",)
    known = {deployment.id: deployment for deployment in _journalled(tools, runs)}
    known |= {deployment.id: deployment for deployment in plain_history(listed)}
    past = Past(
        deployments=tuple(sorted(known.values(), key=lambda deployment: deployment.created_at)),
        built={version.id: version.created_at for version in versions},
        marks=merged(tools.marks.marks(tools.environment), marks_in(listed, versions)),
        now=tools.clock.now(),
        typed=frozenset(_typed(listed, runs)),
    )
    return past, notes


def _typed(listed: Sequence[Deployment], runs: Iterable[Run]) -> Iterator[str]:
    """Yield the rollbacks that people typed, here and on other machines, as far as they are known."""
    yield from (run.id for run in _rollbacks(runs) if not run.plan.cause)
    remarks = (deployment.remark for deployment in listed)
    yield from (r.run for r in remarks if r is not None and r.kind is RemarkKind.ROLLBACK and not r.auto)


def _journalled(tools: Toolbox, runs: Iterable[Run]) -> Iterator[Deployment]:
    """Yield the deployments that the journal saw: those that were watched, and those that rollbacks made."""
    for run in runs:
        if run.plan.kind is PlanKind.GUARD:
            args = run.plan.step("watch").args
            at = float(str(args.get("deployed_at") or args["since"]))
            new, old = str(args["version"]), str(args["old"])
            yield _deployment(str(args["deployment"]), at, {new: float(str(args["split"])), old: 0.0})
        elif run.plan.kind is PlanKind.ROLLBACK:
            made = _table(tools.runs.result(run.id, "activate"))
            if made:
                remark = Remark(RemarkKind.ROLLBACK, run.id, auto=bool(run.plan.cause))
                at = float(str(made["at"]))
                yield _deployment(str(made["deployment"]), at, {str(made["version"]): 1.0}, remark)


def _deployment(name: str, at: float, shares: dict[str, float], remark: Remark | None = None) -> Deployment:
    """Return a deployment; the second of two versions has what the first one leaves."""
    first, *rest = shares.items()
    left = 1.0 - first[1]
    pairs = [first, *((version, left) for version, _ in rest if version and left > 0)]
    shared = tuple(Share(VersionId(version), 100 * share) for version, share in pairs)
    return Deployment(DeploymentId(name), at, shared, str(remark or ""), claim=remark)


def _counted(tools: Toolbox, case: Case) -> Case:
    """Return the case with what its version answered after the verdict, as far as it was counted."""
    own = rows_of(tools, case.watch.version, case.watch.decided_at, case.until)
    if not own:
        return case
    requests, errors = total(own)
    return replace(case, requests=requests, errors=errors)


def rows_of(tools: Toolbox, version: str, since: float, until: float) -> list[Counts]:
    """Return what a version answered between two times, as far as it was kept or the source still tells it."""
    first, last = int(since), int(until) + 1
    rows = {(row.version, row.second): row for row in tools.counts.kept(tools.environment, first, last)}
    if tools.traffic is not None:
        try:
            page = tools.traffic.read(first, last)
        except BackoutError:
            page = None
        if page is not None:
            rows |= {(row.version, row.second): row for row in page.counts}
    return [row for row in rows.values() if row.version == version]


def _table(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
