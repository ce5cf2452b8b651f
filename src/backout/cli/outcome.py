"""What a run came to, read from the journal: the payload of `--json`, the text for a person, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backout.model.incident import RunState
from backout.model.plan import PlanKind
from backout.report.times import clock, rfc3339

if TYPE_CHECKING:
    from backout.cli.shell import Shell
    from backout.model.incident import Run
    from backout.model.plan import Json, Plan
    from backout.model.verdict import Verification
    from backout.runbook.toolbox import Toolbox


_TIMES = frozenset(
    {
        "at",
        "since",
        "until",
        "started_at",
        "ended_at",
        "passed_at",
        "read_at",
        "detected_at",
        "deployed_at",
        "first_bad_at",
        "leaving_since",
        "baseline_until",
    }
)
"""Keys whose numbers are Unix seconds inside; outside, times are RFC 3339."""


def timed(value: object) -> object:
    """Return JSON values with the times in them as RFC 3339.

    >>> timed({"at": 0.5, "n": 3, "steps": [{"since": None}]})
    {'at': '1970-01-01T00:00:00.500Z', 'n': 3, 'steps': [{'since': None}]}
    """
    if isinstance(value, Mapping):
        return {k: rfc3339(v) if k in _TIMES and isinstance(v, int | float) else timed(v) for k, v in value.items()}
    return [timed(item) for item in value] if isinstance(value, list | tuple) else value


def dry_run(shell: Shell, name: str, plan: Plan, facts: Mapping[str, object], human: str = "") -> int:
    """Show the plan that a command would run, and return the exit code; `facts`: what the answer says beside it."""
    from backout.cli.paint import paint_for  # noqa: PLC0415 - only where a plan is shown
    from backout.report.plans import plan_text  # noqa: PLC0415 - same

    out = shell.output
    payload = {"dry_run": True, "environment": plan.environment, **facts, "plan": plan_record(plan), "verified": None}
    text = human or plan_text(plan, width=out.style.width, paint=paint_for(out.style))
    out.result(name, payload, text)
    out.say("\nnothing was changed (dry run)")
    return 0


def plan_record(plan: Plan) -> dict[str, object]:
    """Return a plan as JSON values."""
    return {
        "hash": plan.hash,
        "kind": plan.kind,
        "environment": plan.environment,
        "why": plan.why,
        "steps": [
            {"action": s.action, "title": s.title, "args": timed(s.args), "equivalent": s.equivalent}
            for s in plan.steps
        ],
        "notes": list(plan.notes),
        "not_covered": list(plan.not_covered),
        "coverage": [{"what": line.what, "fate": line.fate, "why": line.why} for line in plan.coverage],
    }


def verification(tools: Toolbox, run: str, step: str = "verify") -> Verification | None:
    """Return the verification recorded for a run, or None when it did not wait for one."""
    recorded = tools.runs.result(run, step)
    if not isinstance(recorded, dict):
        return None

    from backout.decoding import decode_values  # noqa: PLC0415 - msgspec only where a record is read
    from backout.model.verdict import Verification as Shape  # noqa: PLC0415

    return decode_values(recorded, Shape)


def rollback_record(tools: Toolbox, run: Run) -> dict[str, object]:
    """Return what a rollback did: only what was read back from the provider is claimed."""
    from backout.runbook.prove import chosen  # noqa: PLC0415 - loaded already by whoever acted

    activate = run.plan.step("activate").args
    live = _dict(tools.runs.result(run.id, "read_back"))
    report = _dict(tools.runs.result(run.id, "report"))
    proof = verification(tools, run.id)
    return {
        "run_id": run.id,
        "state": run.state,
        "environment": run.environment,
        "from_version": activate["leaving"],
        "to_version": chosen(tools, run.id, activate),
        "live_version": live.get("version"),
        "deployment_id": live.get("deployment"),
        "live_since": _time(live.get("since")),
        "read_back_at": _time(live.get("read_at")),
        "verified": None if proof is None else proof.verified,
        "criteria": [] if proof is None else [_criterion(c) for c in proof.criteria],
        "proof": tools.runs.result(run.id, "prove"),
        "report_path": report.get("path"),
    }


def forward_record(tools: Toolbox, run: Run) -> dict[str, object]:
    """Return what a roll-forward did: only what was read back from provider and database is claimed."""
    deploy = run.plan.step("deploy").args
    ran = _dict(tools.runs.result(run.id, "deploy"))
    live = _read_back(tools, run)
    proof = verification(tools, run.id)
    return {
        "run_id": run.id,
        "state": run.state,
        "environment": run.environment,
        "from_version": deploy["leaving"],
        "command": deploy["command"],
        "tail": ran.get("tail") or [],
        "live_version": live.get("version"),
        "deployment_id": live.get("deployment"),
        "live_since": _time(live.get("since")),
        "read_back_at": _time(live.get("read_at")),
        "migration_head": _dict(tools.runs.result(run.id, "check_head")).get("head"),
        "verified": None if proof is None else proof.verified,
        "criteria": [] if proof is None else [_criterion(c) for c in proof.criteria],
        "report_path": _dict(tools.runs.result(run.id, "report")).get("path"),
    }


def _read_back(tools: Toolbox, run: Run) -> dict[str, Json]:
    return _dict(tools.runs.result(run.id, "read_new" if run.plan.kind is PlanKind.FORWARD else "read_back"))


def hops(tools: Toolbox, run: Run) -> list[dict[str, object]]:
    """Return the automatic rollbacks that followed one another, the first in front; what each came to."""
    from backout.runbook.incident import led_to  # noqa: PLC0415 loaded already where a run was driven

    rollbacks = [each for each in led_to(tools.runs, run.id) if each.plan.kind is PlanKind.ROLLBACK]
    return [_hop(tools, each) for each in rollbacks]


def _hop(tools: Toolbox, run: Run) -> dict[str, object]:
    record = rollback_record(tools, run)
    settled = _dict(tools.runs.result(run.id, "settle"))
    told = ("run_id", "from_version", "to_version", "live_version", "verified")
    return {**{key: record[key] for key in told}, "why": settled.get("why") or None}


def hop_sentence(hop: Mapping[str, object]) -> str:
    """Return what a rollback that did not restore the service came to, "" for one that did."""
    return f"Rolled back from {hop['from_version']} to {hop['to_version']}: {hop['why']}" if hop["why"] else ""


def _criterion(result: object) -> dict[str, object]:
    from backout.cli.live import criterion_record  # noqa: PLC0415

    return criterion_record(result)  # type: ignore[arg-type]


def exit_code(tools: Toolbox, run: Run, verified_by: str = "verify") -> int:
    """Return the exit code of what was changed: 0 verified (or not waited for), 1 not, 7 not provable, 5 unfinished."""
    if run.state is RunState.ABORTED:
        return 6
    if run.state is not RunState.DONE:
        return 5
    if not any(step.action == verified_by for step in run.plan.steps):
        return 0
    proof = verification(tools, run.id, verified_by)
    return {True: 0, False: 1, None: 7}[proof.verified if proof else None]


def live_sentence(record: dict[str, object], tools: Toolbox, run: Run) -> str:
    """Return "Now live: ..." as it was read back."""
    live = _read_back(tools, run)
    if not live:
        return f"run {run.id} is {run.state}; what is live was not read back"
    since, read_at = float(str(live["since"])), float(str(live["read_at"]))
    return f"Now live: version {record['live_version']} since {clock(since)} (read back {clock(read_at)})"


def undo_commands(run: Run) -> tuple[str, ...]:
    """Return the commands that undo a rollback."""
    if run.plan.kind is not PlanKind.ROLLBACK:
        return ()
    left = run.plan.step("activate").args["leaving"]
    environment = run.environment
    return (
        f"backout deployments release {left} -e {environment} -m WHY  # undo: first lift the quarantine, then",
        f"backout rollback {left} -e {environment} -m WHY",
    )


def _dict(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _time(value: Json) -> str | None:
    return rfc3339(float(value)) if isinstance(value, (int, float)) else None
