"""`--break-glass`: go on without the approval that a plan needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from backout.cli.support.shell import Shell
from backout.errors import BackoutError
from backout.escaping import fold_blanks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.incident.notice import Notice
    from backout.ports import Runs


class _BreakGlass(click.Option):
    """Needs a reason beside it, and is known to whatever drives the run."""

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Note the reason. Raises click.UsageError: there is none."""
        if opts.get("glass"):
            why = fold_blanks(str(opts.get("message") or "")).strip()
            if not why:
                raise click.UsageError("--break-glass needs a reason: add -m WHY", ctx)
            shell = ctx.find_object(Shell)
            if shell is not None:
                shell.take(glass=why)
        return super().handle_parse_result(ctx, opts, args)


BREAK_GLASS = click.option(
    "--break-glass",
    "glass",
    cls=_BreakGlass,
    is_flag=True,
    expose_value=False,
    help="Go on without the approval that the plan needs; recorded, and told to every channel. Needs -m.",
)


def break_glass_as_typed(shell: Shell, runs: Runs, run: str, *, actor: str) -> None:
    """Break the glass for a run that is about to be driven, if that was typed and there is one."""
    if not shell.flags.glass:
        return
    if not break_glass_for(shell, runs, run, actor=actor, why=shell.flags.glass):
        shell.output.say(f"{run} waits for no approval: there is no glass to break")


def break_glass_for(shell: Shell, runs: Runs, run: str, *, actor: str, why: str) -> bool:
    """Have a run go on without the approval that it needs, and tell every channel; return whether it needed one."""
    from backout.runbook.safety.break_glass import break_glass
    from backout.wiring import clock

    notice = break_glass(runs, run, actor=actor, why=shell.mask_reason(why), at=clock.now())
    if notice is None:
        return False
    tell_of_glass(shell, notice)
    return True


def tell_of_glass(shell: Shell, notice: Notice) -> None:
    """Tell every channel that nobody approved what is done."""
    shell.output.warn(f"{notice.title}; it is recorded, and every channel is told")
    send_notice(shell, notice)


def send_notice(shell: Shell, notice: Notice) -> None:
    """Tell the channels; where there is none, or it cannot be done, that is said."""
    if shell.notifier is None:  # without a toolbox, which brings one
        from backout.wiring.telling import make_notifier

        shell.notifier = make_notifier(shell.config())
    if shell.notifier is None:
        shell.output.warn("no one is told: [notify] has no channel (docs/notifications.md)")
        return
    try:
        shell.notifier.tell(notice)
    except BackoutError as error:
        shell.output.warn(f"no notice could be sent: {error.what}")
