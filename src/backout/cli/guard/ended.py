"""How the end of a watch is reported: with a rollback, with secrets that were set, or with only its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.cli.support import outcome
from backout.model.incident.incident import RunState

if TYPE_CHECKING:
    from backout.cli.support.session import Session
    from backout.model.incident.incident import Run
    from backout.model.steps.guard import ConcludeResult


def list_next_commands(run: Run, verdict: str, action: str) -> tuple[str, ...]:
    """Return what to type after the verdict: a void one must not lead to a rollback of what is live now."""
    if action == "void":
        return (f"backout guard -e {run.environment}  # watch the deployment that is live now",)
    return (f"backout rollback -e {run.environment} -m WHY",) if verdict == "regressed" else ()


def describe_verdict(
    verdict: str, reason: str, concluded: ConcludeResult | None, shifts: list[dict[str, object]]
) -> str:
    """Return a verdict and what was done about it, for a person."""
    if concluded is None:
        return f"{verdict}: {reason}\nWhat was done about it is not recorded"
    mark, action = concluded.provider_mark, str(concluded.action)
    problem = mark.problem if mark is not None else None
    did = {
        "stable": f"marked stable here only ({problem})" if problem else "marked stable",
        "hold": "nothing was changed",
        "accept": "accepted by policy, not marked stable",
        "void": "the verdict is void, nothing was changed",
    }.get(action, action)
    why = concluded.why
    lines = [f"{verdict}: {reason}", did[:1].upper() + did[1:] + (f": {why}" if why and why != reason else "")]
    lines += [f"Told: {shift['sentence']}" for shift in shifts if shift["outcome"] == "told"]
    if concluded.would:
        lines.append(f"Would: {concluded.would}")
    if concluded.report:
        lines.append(f"Report: {concluded.report}")
    return "\n".join(lines)


def tell_rollback(session: Session, run: Run, record: dict[str, object], verdict: str) -> int:
    """Say how the rollback that followed ended, and return the exit code."""
    from backout.cli.rollback import format_end

    did = outcome.make_rollback_record(session.tools, run)
    hops = outcome.list_hops(session.tools, run)
    told = [line for hop in hops if (line := outcome.describe_hop(hop))]
    human = "\n".join([f"{verdict}: {record['reason']}", *told, format_end(session.shell, session, run, did)])
    session.shell.output.result("guard", {**record, "action": "rollback", **did, "hops": hops}, human)
    more = (*outcome.list_revert_commands(run), *outcome.undo_commands(run))
    session.shell.output.next(f"backout status -e {run.environment}", *more)
    return 5 if run.state is not RunState.DONE else 1


def tell_push(session: Session, run: Run, record: dict[str, object], verdict: str) -> int:
    """Say that secrets were set in place of a rollback, and how that ended."""
    from backout.cli.secrets.push import describe_end
    from backout.model.steps.secrets import FallBackStep
    from backout.ports import find_result

    did, text = describe_end(session, run)
    told = find_result(session.tools.runs, run.id, FallBackStep)
    why = told.why if told is not None else ""
    lines = [f"{verdict}: {record['reason']}", text, *([f"Nothing more was done: {why}"] if why else [])]
    session.shell.output.result("guard", {**record, **did, "action": "push_secret"}, "\n".join(lines))
    session.shell.output.next(f"backout status -e {run.environment}", f"backout secrets check -e {run.environment}")
    return 5 if run.state is not RunState.DONE else 1
