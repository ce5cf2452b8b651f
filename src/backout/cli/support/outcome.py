"""The outcome of a run, read from the journal: the payload of `--json`, the text for a person, and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.report.event_records import make_criterion_record, make_plan_record
from backout.report.times import format_clock, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.cli.support.shell import Shell
    from backout.model.guard.verdict import Verification
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.model.steps.rollback import ReadBackResult
    from backout.runbook.toolbox import Toolbox


def show_dry_run(shell: Shell, name: str, plan: Plan, facts: Mapping[str, object], human: str = "") -> int:
    """Show the plan that a command would run, and return the exit code; `facts`: what the answer says in addition."""
    from backout.cli.support.paint import paint_for
    from backout.report.plans import format_plan

    out = shell.output
    payload = {
        "dry_run": True,
        "environment": plan.environment,
        **facts,
        "plan": make_plan_record(plan),
        "verified": None,
    }
    text = human or format_plan(plan, width=out.style.width, paint=paint_for(out.style))
    out.result(name, payload, text)
    out.say("\nnothing was changed (dry run)")
    return 0


def find_verification(tools: Toolbox, run: str, step: str = "verify") -> Verification | None:
    """Return the verification recorded for a run, or None when it did not wait for one."""
    recorded = tools.runs.result(run, step)
    if not isinstance(recorded, dict):
        return None

    from backout.decoding import decode_values
    from backout.model.guard.verdict import Verification as Shape

    return decode_values(recorded, Shape)


def make_rollback_record(tools: Toolbox, run: Run) -> dict[str, object]:
    """Return what a rollback did: only what was read back from the provider is claimed."""
    from backout.model.steps.rollback import ActivateStep, ReportStep
    from backout.ports import find_result
    from backout.report.guard.monitoring import make_seen_record
    from backout.runbook.probing.pre_promotion import find_chosen

    switch = run.plan.arguments(ActivateStep)
    live = _read_back(tools, run)
    report = find_result(tools.runs, run.id, ReportStep)
    proof = find_verification(tools, run.id)
    return {
        "run_id": run.id,
        "state": run.state,
        "environment": run.environment,
        "from_version": switch.leaving,
        "to_version": find_chosen(tools, run.id, switch.version),
        **_make_live_record(live),
        "verified": None if proof is None else proof.verified,
        "criteria": [] if proof is None else [make_criterion_record(c) for c in proof.criteria],
        "seen": None if proof is None or proof.seen is None else make_seen_record(proof.seen),
        "proof": tools.runs.result(run.id, "prove"),
        "report_path": None if report is None else report.path,
    }


def make_forward_record(tools: Toolbox, run: Run) -> dict[str, object]:
    """Return what a roll-forward did: only what was read back from provider and database is claimed."""
    from backout.model.steps.forward import CheckHeadStep, DeployStep
    from backout.model.steps.rollback import ReportStep
    from backout.ports import find_result

    deploy = run.plan.arguments(DeployStep)
    ran, checked = find_result(tools.runs, run.id, DeployStep), find_result(tools.runs, run.id, CheckHeadStep)
    report = find_result(tools.runs, run.id, ReportStep)
    proof = find_verification(tools, run.id)
    return {
        "run_id": run.id,
        "state": run.state,
        "environment": run.environment,
        "from_version": deploy.leaving,
        "command": deploy.command,
        "tail": [] if ran is None else list(ran.tail),
        **_make_live_record(_read_back(tools, run)),
        "migration_head": None if checked is None else checked.head,
        "verified": None if proof is None else proof.verified,
        "criteria": [] if proof is None else [make_criterion_record(c) for c in proof.criteria],
        "report_path": None if report is None else report.path,
    }


def _read_back(tools: Toolbox, run: Run) -> ReadBackResult | None:
    from backout.model.steps.forward import ReadNewStep
    from backout.model.steps.rollback import ReadBackStep
    from backout.ports import find_result

    if run.plan.kind is PlanKind.FORWARD:
        return find_result(tools.runs, run.id, ReadNewStep)
    return find_result(tools.runs, run.id, ReadBackStep)


def _make_live_record(live: ReadBackResult | None) -> dict[str, object]:
    return {
        "live_version": None if live is None else live.version,
        "deployment_id": None if live is None else live.deployment,
        "live_since": None if live is None else format_time(live.since),
        "read_back_at": None if live is None else format_time(live.read_at),
    }


def list_hops(tools: Toolbox, run: Run) -> list[dict[str, object]]:
    """Return the automatic rollbacks that followed one another, first to last, with the outcome of each."""
    from backout.runbook.incident.report import trace_causes

    rollbacks = [each for each in trace_causes(tools.runs, run.id) if each.plan.kind is PlanKind.ROLLBACK]
    return [_make_hop_record(tools, each) for each in rollbacks]


def _make_hop_record(tools: Toolbox, run: Run) -> dict[str, object]:
    from backout.model.steps.rollback import SettleStep
    from backout.ports import find_result

    record, settled = make_rollback_record(tools, run), find_result(tools.runs, run.id, SettleStep)
    told = ("run_id", "from_version", "to_version", "live_version", "verified")
    return {**{key: record[key] for key in told}, "why": None if settled is None else settled.why or None}


def describe_hop(hop: Mapping[str, object]) -> str:
    """Return the outcome of a rollback that did not restore the service, "" for one that did."""
    return f"Rolled back from {hop['from_version']} to {hop['to_version']}: {hop['why']}" if hop["why"] else ""


def find_exit_code(tools: Toolbox, run: Run, verified_by: str = "verify") -> int:
    """Return the exit code of a change: 0 verified (or not waited for), 1 not, 7 not provable, 5 unfinished."""
    if run.state is RunState.ABORTED:
        return 6
    if run.state is not RunState.DONE:
        return 5
    if not any(step.action == verified_by for step in run.plan.steps):
        return 0
    proof = find_verification(tools, run.id, verified_by)
    return {True: 0, False: 1, None: 7}[proof.verified if proof else None]


def describe_live(tools: Toolbox, run: Run) -> str:
    """Return "Now live: ..." as it was read back."""
    live = _read_back(tools, run)
    if live is None:
        return f"run {run.id} is {run.state}; what is live was not read back"
    return f"Now live: version {live.version} since {format_clock(live.since)} (read back {format_clock(live.read_at)})"


def list_revert_commands(run: Run) -> tuple[str, ...]:
    """Return what keeps the next push from deploying over a rollback, where the platform builds on pushes."""
    from backout.analysis.attached import BUILDS
    from backout.model.steps.rollback import ActivateStep

    builds = [line for line in run.plan.coverage if line.what == BUILDS]
    if run.plan.kind is not PlanKind.ROLLBACK or not builds:
        return ()
    left = run.plan.arguments(ActivateStep).left
    commit = left.git_sha if left is not None and left.git_sha else "COMMIT"
    return (f"git revert {commit}  # {BUILDS}: {builds[0].why}",)


def undo_commands(run: Run) -> tuple[str, ...]:
    """Return the commands that undo a rollback."""
    from backout.model.steps.rollback import ActivateStep

    if run.plan.kind is not PlanKind.ROLLBACK:
        return ()
    left = run.plan.arguments(ActivateStep).leaving
    environment = run.environment
    return (
        f"backout deployments release {left} -e {environment} -m WHY  # undo: first lift the quarantine, then",
        f"backout rollback {left} -e {environment} -m WHY",
    )
