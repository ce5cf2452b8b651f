"""`backout guard accept`: a person says that a shift in what is answered is intended, which ends a hold as healthy."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from backout.cli.options import REASON, Command, pass_shell
from backout.errors import DecisionNeeded, UsageError

if TYPE_CHECKING:
    from backout.cli.shell import Shell
    from backout.runbook.accept import Accepted


@click.command(
    "accept",
    cls=Command,
    short_help="Say that a shift in what is answered is intended.",
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
    """Accept SHIFT, by the name that guard gave it: the newest watch, held or still going on, no longer holds for it.

    Without SHIFT the names are told. When nothing else holds a watch that has ended, its version is marked stable by
    the rules of a healthy watch.
    """
    from backout.runbook import accept as procedure  # noqa: PLC0415 - only who accepts needs the procedures
    from backout.runbook.held import SHIFT_RULE  # noqa: PLC0415 same

    config = shell.config()
    if shift is None:
        watch, names = procedure.open_shifts(shell.toolbox(config))
        lines = (f"`backout guard accept {shlex.quote(name)} -e {config.name} -m WHY`" for name in names)
        raise UsageError(
            f"which shift? {len(names)} hold{'s' if len(names) == 1 else ''} {watch}; nothing was changed",
            where=f"environment {config.name}",
            hint=" or ".join(lines) or f"backout runs show {watch}",
        )
    if not (message or "").strip():
        raise DecisionNeeded(
            "accepting a shift wants a reason; nothing was changed",
            where=f"environment {config.name}",
            rule=SHIFT_RULE,
            hint=f"backout guard accept {shlex.quote(shift)} -e {config.name} -m WHY",
        )
    why = shell.masked(str(message))
    tools = shell.toolbox(config)
    done = procedure.accept(tools, shift, why)
    ended = done.result or {}
    record = {
        "environment": tools.environment,
        "run_id": done.run,
        "version": done.version,
        "shift": done.shift,
        "why": why,
        "remaining": list(done.remaining),
        "watching": done.watching,
        "action": ended.get("action"),
        "provider_mark": ended.get("provider_mark"),
    }
    shell.output.result("guard-accept", record, _words(done))
    if done.partly and not done.watching and not done.remaining:
        shell.output.next(f"backout guard -e {tools.environment}")
        return 0
    if done.watching and (done.ended or done.interrupted):
        again = f"backout guard accept {shlex.quote(shift)} -e {tools.environment} -m WHY"
        shell.output.next(f"backout guard -e {tools.environment}" if done.interrupted else again)
        return 0
    left = [f"backout guard accept {shlex.quote(name)} -e {tools.environment} -m WHY" for name in done.remaining]
    shell.output.next(*left, f"backout status -e {tools.environment}")
    return 0 if not ended or ended.get("action") in ("stable", "ramp") else 7


def _words(done: Accepted) -> str:
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
    if done.result.get("action") == "ramp":
        return f"{said}, which is moved up"
    if done.result.get("action") == "stable":
        return f"{said}, which is marked stable"
    return f"{said}; not marked stable: {done.result.get('why')}"
