"""`backout db restore` where a vendor runs the database: branches in place of side instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.cli.db_restore import Wish
    from backout.cli.db_restore_desk import Desk
    from backout.model.incident import Run
    from backout.model.plan import Json, Plan
    from backout.runbook.managed import BranchTools


def planned(tools: BranchTools, target: str | None, mode: str | None, wish: Wish) -> Plan:
    """Return the plan. Raises as `runbook.managed.find`, and Refused for what the vendor cannot do."""
    from backout.plan.branches import Treatment  # noqa: PLC0415 only with a vendor
    from backout.runbook import managed as procedure  # noqa: PLC0415 same

    if target is None or mode == "undo":
        return procedure.plan_undo(tools)
    if mode == "side":
        return procedure.plan_side(tools, target)
    if mode == "swap":
        return procedure.plan_swap(tools, target)
    return procedure.plan_rescue(tools, target, Treatment(wish.conflicts, wish.skip, wish.queues))


def finish(desk: Desk, run: Run, results: Mapping[str, Json]) -> int:
    """Say which branch there is now, as the vendor shows it, and what to type next."""
    shell, made, done = desk.shell, results.get("db_branch"), results.get("db_branch_finalize")
    environment, name = run.environment, _named(made)
    payload = {
        "run_id": run.id,
        "environment": environment,
        "why": run.plan.why,
        "side": made if done is None else None,
        "rescue": None,
        "swap": done,
        "kept": [],
        "protected": None,
    }
    lines = [f"done: {run.plan.why}"]
    if isinstance(done, dict):
        payload["kept"] = [done["kept"]]
        head = done["migration_head"] or "none"
        lines.append(f"live: branch {_named(done['live'])}, migration {head}; the old state is kept: {done['kept']}")
        follow = [
            f"backout db restore --undo -e {environment}",
            f"backout db branch delete {done['kept']} -e {environment}  # when it is not needed any more",
        ]
    else:
        lines.append(f"branch {name} is ready beside the live one")
        follow = [
            f"backout db branch look {name} -e {environment}",
            f"backout db branch delete {name} -e {environment}  # when it is not needed any more",
        ]
    shell.output.result("db-restore", payload, "\n".join(lines))
    shell.output.next(*follow)
    return 0


def _named(branch: Json) -> str:
    return str(branch["name"]) if isinstance(branch, dict) else ""
