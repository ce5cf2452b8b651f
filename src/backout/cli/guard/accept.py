"""`backout guard accept`: a person accepts a shift in the answers as intended, which ends a hold as healthy."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import REASON, Command, pass_shell
from backout.errors import DecisionNeeded, UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.runbook.guard.accept import Accepted


@click.command(
    "accept",
    cls=Command,
    short_help="Accept a shift in the answers as intended.",
    epilog="""
Examples:
  backout guard accept GET:/old:404 -e production -m "retired on Monday"
  backout guard accept endpoint:health -e production -m "moved to /up"
""",
)
@click.argument("shift", required=False)
@click.option(
    "-m", "--message", type=REASON, metavar="WHY", help="Why it is intended; recorded in the journal. Required."
)
@pass_shell
def accept(shell: Shell, *, shift: str | None, message: str | None) -> int:
    """Accept SHIFT, by the name that guard gave it: the newest watch, held or still running, no longer holds for it.

    Without SHIFT the names are listed. When nothing else holds a finished watch, its version is marked stable by the
    rules of a healthy watch.
    """
    from backout.model.steps.base import to_json
    from backout.model.steps.guard import ConcludeAction
    from backout.runbook.guard import accept as procedure
    from backout.runbook.guard.held import SHIFT_RULE

    config = shell.config()
    if shift is None:
        watch, names = procedure.list_open_shifts(shell.toolbox(config))
        lines = (f"`backout guard accept {shlex.quote(name)} -e {config.name} -m WHY`" for name in names)
        raise UsageError(
            f"which shift? {len(names)} hold{'s' if len(names) == 1 else ''} {watch}; nothing was changed",
            where=f"environment {config.name}",
            hint=" or ".join(lines) or f"backout runs show {watch}",
        )
    if not (message or "").strip():
        raise DecisionNeeded(
            "accepting a shift needs a reason; nothing was changed",
            where=f"environment {config.name}",
            rule=SHIFT_RULE,
            hint=f"backout guard accept {shlex.quote(shift)} -e {config.name} -m WHY",
        )
    why = shell.mask_reason(str(message))
    tools = shell.toolbox(config)
    done = procedure.accept(tools, shift, why)
    ended = done.result
    record = {
        "environment": tools.environment,
        "run_id": done.run,
        "version": done.version,
        "shift": done.shift,
        "why": why,
        "remaining": list(done.remaining),
        "watching": done.watching,
        "action": ended.action if ended is not None else None,
        "provider_mark": to_json(ended.provider_mark) if ended is not None else None,
    }
    shell.output.result("guard-accept", record, _describe_acceptance(done))
    if done.partly and not done.watching and not done.remaining:
        shell.output.next(f"backout guard -e {tools.environment}")
        return 0
    if done.watching and (done.ended or done.interrupted):
        again = f"backout guard accept {shlex.quote(shift)} -e {tools.environment} -m WHY"
        shell.output.next(f"backout guard -e {tools.environment}" if done.interrupted else again)
        return 0
    left = [f"backout guard accept {shlex.quote(name)} -e {tools.environment} -m WHY" for name in done.remaining]
    shell.output.next(*left, f"backout status -e {tools.environment}")
    return 0 if ended is None or ended.action in (ConcludeAction.STABLE, ConcludeAction.RAMP) else 7


def _describe_acceptance(done: Accepted) -> str:
    from backout.model.steps.guard import ConcludeAction

    said = f"{done.shift} is accepted for version {done.version}"
    if done.remaining:
        return f"{said}; still held for {', '.join(done.remaining)}"
    if done.partly and not done.watching:
        return f"{said}; it has a part of the traffic: watch it again, and it is moved up"
    if done.interrupted:
        return f"{said}; the watch was interrupted, and takes it in when it goes on"
    if done.watching and done.ended:
        return f"{said}; the watch has just ended and is not concluded yet: type the same again to see what came of it"
    if done.result is None:
        return f"{said}; the watch goes on without it"
    if done.result.action is ConcludeAction.RAMP:
        return f"{said}, which is moved up"
    if done.result.action is ConcludeAction.STABLE:
        return f"{said}, which is marked stable"
    return f"{said}; not marked stable: {done.result.why}"
