"""`backout db restore` where a vendor runs the database: branches in place of side instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.cli.db.restore_session import RestoreRequest, RestoreSession
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.runbook.recovery.managed import BranchTools


def make_plan(tools: BranchTools, target: str | None, mode: str | None, request: RestoreRequest) -> Plan:
    """Return the plan. Raises as `runbook.recovery.managed.find`, and Refused for what the vendor cannot do."""
    from backout.plan.branches import Treatment
    from backout.runbook.recovery import managed as procedure

    if mode == "undo" or target is None:
        return procedure.plan_undo(tools, target)
    if mode == "side":
        return procedure.plan_side(tools, target)
    if mode == "swap":
        return procedure.plan_swap(tools, target)
    return procedure.plan_rescue(tools, target, Treatment(request.conflicts, request.skip, request.queues))


def finish(session: RestoreSession, run: Run) -> int:
    """Say which branch there is now, as the vendor shows it, and what to type next."""
    from backout.cli.support.also_back import make_second_check
    from backout.cli.support.cached import describe_cache
    from backout.model.steps.base import to_json
    from backout.model.steps.branches import BranchStep, FinalizeStep
    from backout.ports import find_result

    shell, runs, environment = session.shell, session.tools.runs, run.environment
    made, done = find_result(runs, run.id, BranchStep), find_result(runs, run.id, FinalizeStep)
    check = make_second_check(runs, run)
    name = made.name if made is not None else ""
    payload = {
        "run_id": run.id,
        "environment": environment,
        "why": run.plan.why,
        "side": to_json(made) if done is None else None,
        "rescue": None,
        **check.record(),
        "swap": to_json(done),
        "kept": [],
        "protected": None,
    }
    lines = [f"done: {run.plan.why}"]
    lines += check.lines
    if done is not None:
        payload["kept"] = [done.kept]
        head = done.migration_head or "none"
        lines.append(f"live: branch {done.live.name}, migration {head}; the old state is kept: {done.kept}")
        follow = [
            f"backout db restore --undo -e {environment}",
            f"backout db branch delete {done.kept} -e {environment}  # when it is not needed any more",
        ]
    else:
        lines.append(f"branch {name} is ready beside the live one")
        follow = [
            f"backout db branch look {name} -e {environment}",
            f"backout db branch delete {name} -e {environment}  # when it is not needed any more",
        ]
    payload["stale_reads_until"], said = describe_cache(run.plan, session.tools.clock.now())
    shell.output.result("db-restore", payload, "\n".join((*lines, *said)))
    shell.output.next(*follow)
    return min(filter(None, check.codes), default=0)
