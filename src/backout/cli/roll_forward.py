"""`backout roll-forward`: deploy what was mended with the team's own command, read back, verify; plan first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli import outcome
from backout.cli.confirm import confirm
from backout.cli.options import REASON, command, pass_shell
from backout.errors import Refused, UsageError
from backout.model.incident import RunState
from backout.model.plan import Plan, PlanKind

if TYPE_CHECKING:
    from backout.cli.bench import Bench
    from backout.cli.shell import Shell
    from backout.config import Config
    from backout.model.incident import Run


@command(
    "roll-forward",
    short_help="Deploy what was mended, and prove it.",
    epilog="""
Examples:
  backout roll-forward -e staging --dry-run                the plan, nothing else
  backout roll-forward -e production -m "total is back" --confirm production
  backout roll-forward -e staging --no-wait                end after the read-back
""",
)
@click.option("-m", "--message", type=REASON, metavar="WHY", help="Why; goes into the report.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--no-wait", is_flag=True, help="End after reading back what is live; no verification, no report.")
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@pass_shell
def roll_forward(shell: Shell, *, message: str | None, dry_run: bool, no_wait: bool, typed: str | None) -> int:
    """Deploy what was mended, and prove it: the way out when code must not go back over a migration.

    Runs `deploy.command` of the environment in the folder of backout.toml, with this process's variables and no input;
    what it writes is shown. Before that the pending migrations are judged for the code that is live until then;
    afterwards the new version, the migration head and the success criteria are read back. Exit codes: 0 verified, 1 the
    command failed or the criteria are not met, 5 deployed and a migration is missing (resumable).
    """
    from backout.cli.bench import busy, open_bench  # noqa: PLC0415 - only commands that act pay for it
    from backout.runbook.roll_forward import prepare_forward  # noqa: PLC0415 - same

    config = shell.config()
    bench = open_bench(shell, config, "roll-forward")
    unfinished = None if dry_run else bench.in_the_way()
    if unfinished is not None:
        if unfinished.state is not RunState.INTERRUPTED or unfinished.plan.kind is not PlanKind.FORWARD:
            raise busy(unfinished)
        shell.output.say(f"picking up run {unfinished.id}, which was interrupted; its plan stands")
        return finish(bench, bench.drive(unfinished.id))
    config.refuse_withheld("deploy.command")
    _check_no_secret(shell, config)
    plan = prepare_forward(bench.tools, shell.masked(message or ""), wait=not no_wait)
    if not isinstance(plan, Plan):
        raise Refused(plan.reason, where=config.name, rule=plan.rule, options=plan.options)
    if dry_run:
        return _show(shell, plan)
    shell.output.say(_text(shell, plan))
    shell.output.say("")
    what = f"roll forward with `{config.environment.deploy.command}`"
    reason = confirm(shell, config, what, message=message, typed=typed)
    return finish(bench, bench.drive(bench.take_over(plan, reason)))


def _check_no_secret(shell: Shell, config: Config) -> None:
    """Return unless a known secret stands in the command: there every process list of the machine would show it."""
    line = config.environment.deploy.command or ""
    if shell.masked(line) != line:
        raise UsageError(
            "a secret stands in the deploy command, where every user of this machine could read it",
            where=f"{config.path.name}: environments.{config.name}.deploy.command",
            hint="name a variable there instead; the command is started with this process's variables",
        )


def _text(shell: Shell, plan: Plan) -> str:
    from backout.cli.paint import paint_for  # noqa: PLC0415
    from backout.report.plans import plan_text  # noqa: PLC0415

    return plan_text(plan, width=shell.output.talk.width, paint=paint_for(shell.output.talk))


def _show(shell: Shell, plan: Plan) -> int:
    return outcome.dry_run(shell, "roll-forward", plan, {"from_version": plan.step("deploy").args["leaving"]})


def finish(bench: Bench, run: Run) -> int:
    """Say what is live, as read back, and what to type next."""
    from backout.cli.rollback import human_end  # noqa: PLC0415 - only when a run has ended

    shell, tools = bench.shell, bench.tools
    record = outcome.forward_record(tools, run)
    shell.output.result("roll-forward", record, human_end(shell, bench, run, record))
    environment = run.environment
    shell.output.next(f"backout status -e {environment}", f"backout guard -e {environment}")
    if any(step.action == "verify" for step in run.plan.steps):
        bench.renew_card()
    return outcome.exit_code(tools, run)
