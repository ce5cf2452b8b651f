"""Read what the DORA metrics of an environment are computed from: the journal, and the provider's history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.certify.traces import OURS
from backout.analysis.history.dora import History, Reached, Trouble
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.model.steps.forward import ReadNewStep
from backout.model.steps.guard import RampStep
from backout.ports import find_result
from backout.runbook.hindsight.track_record import look_back, read_past
from backout.runbook.incident.case import read_case
from backout.runbook.incident.drills import CLOCKS_APART_S, list_drills, list_spans
from backout.runbook.incident.report import make_incident_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backout.model.deployment import Deployment
    from backout.model.incident.incident import Run
    from backout.model.incident.record import IncidentRecord
    from backout.runbook.toolbox import Toolbox

_RETURNS = (RemarkKind.ROLLBACK, RemarkKind.SECRETS)


def read_history(
    tools: Toolbox, since: float, find_commit_time: Callable[[str], float | None]
) -> tuple[History, tuple[str, ...]]:
    """Return what is known of a window that ends now, and notes on what could not be read.

    Args:
        since: its beginning, Unix seconds.
        find_commit_time: returns when a commit was made, None where that is not known here.
    """
    runs = tools.runs.runs(tools.environment)
    past, notes = read_past(tools, runs)
    built = {version.id: version for version in tools.versions.recent()} if not notes else {}
    codes = {str(name): version.code_hash or str(name) for name, version in built.items()}
    reached = {(each.version, each.at): each for each in _list_ramped(tools, runs, codes)}
    spans = list_spans(tools.journal, tools.environment)
    for deployment in past.deployments:
        if _is_of_a_trial(deployment, spans):
            continue
        each = _make_reached(deployment, codes)
        reached[each.version, each.at] = each
    commits = {str(name): version.git_sha for name, version in built.items() if version.git_sha}
    committed = {name: at for name, sha in commits.items() if (at := find_commit_time(sha)) is not None}
    record = look_back(tools)
    false = {case.watch.version for case in record.false_alarms}
    until = tools.clock.now()
    history = History(
        environment=tools.environment,
        since=since,
        until=until,
        reached=tuple(reached.values()),
        troubles=tuple(_list_troubles(tools, false)),
        committed=committed,
        forward=frozenset(_list_forward(tools, runs)),
        missed=sum(since <= each.at < until for each in record.missed),
        drills=sum(since <= each.at <= until for each in list_drills(tools.journal)),
    )
    return history, notes


def _is_of_a_trial(deployment: Deployment, spans: Sequence[tuple[float, float]]) -> bool:
    """Whether a drill in this environment made it, or a trial of a way back; `spans`: when there were drills."""
    return deployment.message.startswith(OURS) or any(
        since - CLOCKS_APART_S <= deployment.created_at <= until + CLOCKS_APART_S for since, until in spans
    )


def _make_reached(deployment: Deployment, codes: dict[str, str]) -> Reached:
    version, remark = str(deployment.main), deployment.remark
    is_return = remark is not None and remark.kind in _RETURNS
    sole = deployment.sole is not None
    newest = version if sole else str(deployment.shares[-1].version)
    return Reached(deployment.created_at, newest, codes.get(newest, newest), is_final=sole, is_return=is_return)


def _list_ramped(tools: Toolbox, runs: tuple[Run, ...], codes: dict[str, str]) -> Iterator[Reached]:
    """Yield the steps of ramps, of which a provider lists only the newest."""
    for run in runs:
        done = find_result(tools.runs, run.id, RampStep) if run.plan.kind is PlanKind.RAMP else None
        if done is not None:
            version = run.plan.arguments(RampStep).version
            yield Reached(done.at, version, codes.get(version, version), is_final=done.percentage >= 100)


def _list_forward(tools: Toolbox, runs: tuple[Run, ...]) -> Iterator[str]:
    for run in runs:
        read = find_result(tools.runs, run.id, ReadNewStep) if run.plan.kind is PlanKind.FORWARD else None
        if read is not None:
            yield read.version


def _list_troubles(tools: Toolbox, false: set[str]) -> Iterator[Trouble]:
    records = make_incident_records(tools)
    for found in records.list_records():
        case = read_case(records, found)
        ended_at = found.resolved_at
        if case.incident is not None and case.incident.resolved_at is not None:
            ended_at = case.incident.resolved_at
        by_guard, by_hand, versions = _read_repairs(tools, found)
        end = ended_at if ended_at is not None else tools.clock.now()
        yield Trouble(
            began_at=end - (case.impact.duration_s or 0.0),
            ended_at=ended_at,
            versions=versions,
            by_guard=by_guard,
            by_hand=by_hand,
            is_false=bool(versions & false),
            failed=case.impact.requests_failed,
        )


def _read_repairs(tools: Toolbox, found: IncidentRecord) -> tuple[bool, bool, frozenset[str]]:
    """Return whether guard rolled back, whether a person did, and the versions that were left, or are blamed."""
    by_guard = by_hand = False
    versions = {found.blamed} if found.blamed else set[str]()
    for run in (tools.runs.find(each) for each in found.runs):
        if run is None or run.plan.kind not in (PlanKind.ROLLBACK, PlanKind.FORWARD):
            continue
        step = next((each for each in run.plan.steps if each.action in ("activate", "deploy")), None)
        if step is None or tools.runs.result(run.id, step.action) is None:
            continue
        by_guard |= bool(run.plan.cause)
        by_hand |= not run.plan.cause
        if step.args.get("leaving") and not _is_second_hop(step.args.get("hop")):
            versions.add(str(step.args["leaving"]))
    return by_guard, by_hand, frozenset(versions)


def _is_second_hop(hop: object) -> bool:
    return isinstance(hop, int) and hop > 1
