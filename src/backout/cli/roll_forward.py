"""`backout roll-forward`: plan, deploy a fix with the team's own command, read back, verify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support import outcome
from backout.cli.support.confirm import confirm
from backout.cli.support.glass import BREAK_GLASS
from backout.cli.support.options import REASON, command, pass_shell
from backout.errors import Refused, UsageError
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind

if TYPE_CHECKING:
    from backout.cli.support.session import Session
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.incident.incident import Run


@command(
    "roll-forward",
    short_help="Deploy a fix, and prove it.",
    epilog="""
Examples:
  backout roll-forward -e staging --dry-run                # the plan, nothing else
  backout roll-forward -e production -m "total is back" --confirm production
  backout roll-forward -e staging --no-wait                # end after the read-back
""",
)
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; goes into the report.")
@BREAK_GLASS
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--no-wait", is_flag=True, help="End after reading back what is live; no verification, no report.")
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@pass_shell
def roll_forward(shell: Shell, *, message: str | None, dry_run: bool, no_wait: bool, typed: str | None) -> int:
    """Deploy a fix, and prove it: the way out when code must not go back over a migration.

    Runs the environment's `deploy.command` in the folder of backout.toml, with this process's variables and no input,
    and shows its output. Before that it judges the pending migrations for the code that is live until then; afterwards
    it reads back the new version, the migration head and the success criteria. Exit codes: 0 verified, 1 the command
    failed or the criteria are not met, 5 deployed and a migration is missing (resumable).
    """
    from backout.cli.support.session import make_busy_error, open_session
    from backout.runbook.rollback.roll_forward import prepare_forward

    config = shell.config()
    session = open_session(shell, config, "roll-forward")
    unfinished = None if dry_run else session.in_the_way()
    if unfinished is not None:
        if unfinished.state is not RunState.INTERRUPTED or unfinished.plan.kind is not PlanKind.FORWARD:
            raise make_busy_error(unfinished)
        shell.output.say(f"picking up run {unfinished.id}, which was interrupted; its plan stands")
        return finish(session, session.drive(unfinished.id))
    config.refuse_withheld("deploy.command")
    _check_no_secret(shell, config)
    plan = prepare_forward(session.tools, shell.mask_reason(message or ""), wait=not no_wait)
    if not isinstance(plan, Plan):
        raise Refused(plan.reason, where=config.name, rule=plan.rule, options=plan.options)
    if dry_run:
        return _show(shell, plan)
    shell.output.say(_format_text(shell, plan))
    shell.output.say("")
    what = f"roll forward with `{config.environment.deploy.command}`"
    reason = confirm(shell, config, what, message=message, typed=typed)
    return finish(session, session.drive(session.take_over(plan, reason)))


def _check_no_secret(shell: Shell, config: Config) -> None:
    """Refuse a command that contains a known secret: every process list on the machine would show it."""
    line = config.environment.deploy.command or ""
    if shell.mask_reason(line) != line:
        raise UsageError(
            "the deploy command contains a secret, which every user of this machine could read",
            where=f"{config.path.name}: environments.{config.name}.deploy.command",
            hint="use a variable instead; the command is started with this process's variables",
        )


def _format_text(shell: Shell, plan: Plan) -> str:
    from backout.cli.support.paint import paint_for
    from backout.report.plans import format_plan

    return format_plan(plan, width=shell.output.talk.width, paint=paint_for(shell.output.talk))


def _show(shell: Shell, plan: Plan) -> int:
    from backout.model.steps.forward import DeployStep

    return outcome.show_dry_run(shell, "roll-forward", plan, {"from_version": plan.arguments(DeployStep).leaving})


def finish(session: Session, run: Run) -> int:
    """Say what is live, as read back, and what to type next."""
    from backout.cli.rollback import format_end
    from backout.model.steps.verification import VerifyStep

    shell, tools = session.shell, session.tools
    record = outcome.make_forward_record(tools, run)
    shell.output.result("roll-forward", record, format_end(shell, session, run, record))
    environment = run.environment
    shell.output.next(f"backout status -e {environment}", f"backout guard -e {environment}")
    if run.plan.has(VerifyStep):
        session.renew_card()
    return outcome.find_exit_code(tools, run)
