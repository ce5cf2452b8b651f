"""`backout hold` and `backout unhold`: the kill switch for every automatic action; quick, and without a journal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from backout.cli.support.in_need import say as say_known
from backout.cli.support.options import REASON, command, pass_shell
from backout.errors import BackoutError, DecisionNeeded, UsageError
from backout.escaping import fold_blanks, shorten
from backout.report.times import format_duration, format_time
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.hold import Hold

WITHIN_S = 15.0
USUAL = "2h"
"""How long a hold lasts by default."""


@command(
    "hold",
    short_help="Stop every automatic action, on every machine.",
    epilog="""
Examples:
  backout hold -e production -m "migrating by hand"
  backout hold -e production --for 30m -m WHY --local   # this host only
""",
)
@click.option("--for", "for_", metavar="DURATION", default=USUAL, show_default=True, help="How long (30m, 2h).")
@click.option(
    "-m", "--message", type=REASON, metavar="WHY", help="The reason, shown to everyone who is stopped. Required."
)
@click.option("--local", is_flag=True, help="This host only; the provider is not contacted.")
@pass_shell
def hold(shell: Shell, *, for_: str, message: str | None, local: bool) -> int:
    """Stop every automatic action, on this host at once and on every machine through the provider.

    Commands that a person types keep working. It needs no journal; without the provider it holds on this host (exit 5).
    """
    from backout.config.scalars import parse_seconds
    from backout.model.hold import LONGEST_S

    config = shell.config()
    for_s = parse_seconds(for_, "--for")
    if for_s <= 0:
        raise UsageError("a hold must last longer than 0", where="--for", hint="--for 2h")
    if for_s > LONGEST_S:
        raise UsageError("a hold lasts 7 days at most", where="--for", hint="--for 7d, and again before it ends")
    again = f"backout hold -e {config.name}{'' if for_ == USUAL else f' --for {for_}'} -m WHY"
    return _switch(shell, config, _ask_reason(shell, config, message, again), for_s=for_s, local=local, again=again)


@command("unhold", short_help="Allow automatic actions again.")
@click.option("-m", "--message", type=REASON, metavar="WHY", default="lifted", help="The reason.")
@click.option("--local", is_flag=True, help="This host only; the provider is not contacted.")
@pass_shell
def unhold(shell: Shell, *, message: str, local: bool) -> int:
    """Lift a hold, on this host and at the provider: on every machine."""
    config = shell.config()
    again = f"backout unhold -e {config.name} -m WHY"
    return _switch(shell, config, shell.mask_reason(message), for_s=None, local=local, again=again)


def _ask_reason(shell: Shell, config: Config, message: str | None, again: str) -> str:
    if message is None and shell.interactive:
        shell.output.prompt("Why? (shown to everyone who is stopped) ")
        message = shell.stdin.readline()
    if not (message or "").strip():
        raise DecisionNeeded(
            "a hold needs a reason; nothing was changed",
            where=f"environment {config.name}",
            rule=SafetyRule.HOLD,
            hint=again,
        )
    return shell.mask_reason(fold_blanks(str(message)))


def _switch(shell: Shell, config: Config, why: str, *, for_s: float | None, local: bool, again: str) -> int:
    """Write the file first, then tell the provider; if only one of them works, that is said.

    Args:
        again: the same command, to be typed again when one of them failed.
    """
    from backout.model.hold import Hold
    from backout.runbook.safety.hold import HERE
    from backout.wiring import clock
    from backout.wiring.records import find_actor, open_holds

    now = clock.now()
    wanted = Hold(now + for_s if for_s is not None else 0.0, why, find_actor(), now, HERE)
    holds, troubles = open_holds(config), list[BackoutError]()
    try:
        holds.write(config.name, wanted)
    except BackoutError as error:
        troubles.append(error)
    if for_s is not None:
        wanted = _add_incident(shell, config, wanted, write=not troubles)
    if local:
        if troubles:
            raise troubles[0]
        return _show_answer(shell, config, wanted, everywhere=False, troubles=(), again=again)
    here = not troubles
    try:
        told = _read_at_provider(shell, config, wanted)
    except BackoutError as error:
        if not here:
            raise _make_nowhere_error(shell, config, troubles[0], error) from error
        troubles.append(error)
        say_known(shell.output, config)
        return _show_answer(shell, config, wanted, everywhere=False, troubles=tuple(troubles), again=again)
    return _show_answer(shell, config, told, everywhere=True, troubles=tuple(troubles), again=again)


def _make_nowhere_error(shell: Shell, config: Config, here: BackoutError, there: BackoutError) -> BackoutError:
    """Return the error of a switch that was set neither here nor at the provider, with both reasons."""
    say_known(shell.output, config)
    there.what = f"nothing was changed, neither here nor at the provider: {here}; {there.what}"
    there.hint = here.hint or there.hint  # the file depends on nothing else
    return there


def _add_incident(shell: Shell, config: Config, wanted: Hold, *, write: bool) -> Hold:
    """Return the hold with the incident that is open now, and record that, too; without a journal none is known."""
    from backout.runbook.incident.open_incident import find_open_incident
    from backout.wiring.records import open_holds, open_journal

    try:
        incident = find_open_incident(open_journal(config, hurried=True), config.name)
    except BackoutError as error:
        shell.output.warn(f"whether an incident is open is not known, so the hold ends at its time: {error.what}")
        return wanted
    if incident:
        wanted = replace(wanted, incident=incident)
        if write:
            with contextlib.suppress(BackoutError):  # the hold without its incident is set there
                open_holds(config).write(config.name, wanted)
    return wanted


def _read_at_provider(shell: Shell, config: Config, wanted: Hold) -> Hold:
    from backout.runbook.safety.announce import announce, tell_of
    from backout.wiring.hooks import Hooks

    tools = shell.toolbox(config, Hooks(within_s=WITHIN_S))
    told = announce(tools, wanted)
    tell_of(tools, told)
    if tools.seal is not None and not tools.seal.keys and told.until:
        shell.output.warn("this hold is not signed, because there is no key: other machines obey it for 2 hours")
    return told


def _show_answer(
    shell: Shell, config: Config, hold: Hold, *, everywhere: bool, troubles: tuple[BackoutError, ...], again: str
) -> int:
    held = hold.until > 0
    record = {
        "environment": config.name,
        "held": held,
        "until": format_time(hold.until) if held else None,
        "why": hold.why,
        "by": hold.by,
        "at": format_time(hold.at),
        "where": hold.where,
        "incident": hold.incident or None,
        "everywhere": everywhere,
        "problems": [str(error) for error in troubles],
    }
    shell.output.result("hold", record, _describe_hold(config, hold, everywhere=everywhere))
    for error in troubles:
        shell.output.warn(f"{error}" + (f"; {error.hint}" if error.hint else ""))
    if troubles:
        shell.output.next(f"{again}  # again: only then it is the same on every machine")
        return 5
    shell.output.next(f"backout unhold -e {config.name}" if held else f"backout status -e {config.name}")
    return 0


def _describe_hold(config: Config, hold: Hold, *, everywhere: bool) -> str:
    place = f"on every machine ({hold.where})" if everywhere else "on this host only"
    if not hold.until:
        return f"{config.name}: automatic actions are allowed again {place}"
    also = f", and as long as incident {hold.incident} is open" if hold.incident else ""
    return (
        f"{config.name} is held {place} for {format_duration(round(hold.until - hold.at))}, until "
        f"{format_time(hold.until)}: "
        f"{shorten(hold.why)}\n"
        f"Nothing is done automatically until then{also}; what a person types still works."
    )
