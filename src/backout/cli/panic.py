"""`backout panic`: one command for the worst minute: no questions, the safest allowed action, and how to undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support import outcome
from backout.cli.support.by_hand import ByHand, find_typed_line
from backout.cli.support.glass import break_glass_for
from backout.cli.support.options import REASON, command, pass_shell
from backout.errors import BackoutError, Busy, Interrupted, PartlyDone, Refused
from backout.model.incident.incident import RunState
from backout.model.plan import PANIC_ONCE, PlanKind, PlanRefused

if TYPE_CHECKING:
    from backout.cli.support.session import Session
    from backout.cli.support.shell import Shell
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan


@command(
    "panic",
    short_help="Roll back now: no questions, the safest allowed action.",
    epilog="""
Examples:
  backout panic -e production
  backout panic -e production -m "checkout is down"
  backout panic -e production --dry-run   # what it would do; nothing is touched
""",
)
@click.option(
    "-m",
    "--message",
    type=REASON,
    metavar="WHY",
    default="panic",
    help="The reason; goes into the deployment's message.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what it would do now; change nothing.")
@pass_shell
def panic(shell: Shell, *, message: str, dry_run: bool) -> int:
    """Go back to the last stable version now, within 15 seconds and without asking, production or not.

    It does only what the rules allow: nothing is forced, and no old secret comes back. A running watch is ended first.
    Within 15 minutes of a rollback it does not go back again. It prints how to undo what it did.
    """
    from backout.journal.rows import JournalUnavailable

    hand = ByHand(shell)
    try:
        session, message = _open_session(shell, hand), shell.mask_reason(message)
        try:
            return _show(session, message) if dry_run else _go_back(session, hand, message)
        except JournalUnavailable as error:
            if hand.is_done:
                raise
            raise _make_no_journal_error(session, hand, message, error) from error
    except (Refused, Busy, Interrupted):
        raise  # they are answers, and name what is allowed instead
    except Exception as error:
        if not hand.has_said:
            hand.add_to(error)
        raise


def _open_session(shell: Shell, hand: ByHand) -> Session:
    from backout.cli.support.session import open_session
    from backout.runbook.rollback.panic import WITHIN_S

    hand.config = shell.config(in_need=True)
    session = open_session(shell, hand.config, "panic", within_s=WITHIN_S)
    hand.tools = session.tools
    return session


def _go_back(session: Session, hand: ByHand, message: str) -> int:
    from backout.cli.rollback import make_refusal
    from backout.cli.support.session import make_busy_error
    from backout.model.steps.rollback import ActivateStep
    from backout.runbook.rollback.panic import plan_way_back, stand_aside

    keeper = stand_aside(session.tools)
    if keeper is not None:
        if keeper.plan.kind is not PlanKind.ROLLBACK or keeper.state is not RunState.INTERRUPTED:
            raise make_busy_error(keeper)
        session.shell.output.say(f"picking up run {keeper.id}, a rollback that was interrupted")
        break_glass_for(session.shell, session.tools.runs, keeper.id, actor=session.tools.actor, why=message)
        return _finish(session, hand, session.drive(keeper.id))
    plan = plan_way_back(session.tools, message)
    if isinstance(plan, PlanRefused):
        raise make_refusal(plan, session.tools.environment)
    switch = plan.arguments(ActivateStep)
    session.shell.output.say(f"going back from version {switch.leaving} to {switch.version}")
    run = session.submit(plan, message)
    break_glass_for(session.shell, session.tools.runs, run, actor=session.tools.actor, why=message)
    return _finish(session, hand, session.drive(run))


def _show(session: Session, message: str) -> int:
    """Say what a panic would do now: what it would end or continue, and the plan; raises the same refusals."""
    from backout.cli.rollback import make_refusal
    from backout.cli.support.session import make_busy_error
    from backout.model.steps.rollback import ActivateStep
    from backout.runbook.rollback.panic import find_in_the_way, plan_way_back

    shell, tools = session.shell, session.tools
    keeper, ends = find_in_the_way(tools)
    if keeper is not None and not ends:
        if keeper.plan.kind is not PlanKind.ROLLBACK or keeper.state is not RunState.INTERRUPTED:
            raise make_busy_error(keeper)
        shell.output.say(f"it would pick up run {keeper.id}, a rollback that was interrupted, by this plan:\n")
        plan: Plan | PlanRefused = keeper.plan
    else:
        if keeper is not None:
            shell.output.say(f"it would end run {keeper.id} ({keeper.plan.kind}) first\n")
        plan = plan_way_back(tools, message)
    only_read = getattr(tools.runs, "only_read", None)
    if only_read is not None:  # it would fail: what is done must be recorded
        raise only_read
    if isinstance(plan, PlanRefused):
        raise make_refusal(plan, tools.environment)
    switch = plan.arguments(ActivateStep)
    facts = {
        "from_version": switch.leaving,
        "to_version": switch.version,
        "ends": keeper.id if keeper is not None and ends else None,
    }
    return outcome.show_dry_run(shell, "panic", plan, facts)


def _finish(session: Session, hand: ByHand, run: Run) -> int:
    hand.is_done = True
    shell, tools = session.shell, session.tools
    record = outcome.make_rollback_record(tools, run)
    undo = outcome.undo_commands(run)
    record["undo"] = [line.partition("  #")[0] for line in undo]
    shell.output.result("panic", record, outcome.describe_live(tools, run))
    shell.output.next(f"backout status -e {run.environment}", *undo)
    session.renew_card()
    return outcome.find_exit_code(tools, run)


def _make_no_journal_error(session: Session, hand: ByHand, message: str, error: BackoutError) -> BackoutError:
    """Return the error of a panic without a journal: what is done must be recorded, so a person has to type it."""
    from backout.cli.rollback import make_refusal
    from backout.runbook.incident.no_journal import replace_unread_journal
    from backout.runbook.rollback.panic import list_lines_unproven, list_lines_without_journal

    where, refused = error.where, None
    try:
        tools = replace_unread_journal(session.tools)
        lines = list_lines_without_journal(tools, message)
        hand.ways = ()  # the plan says it, from what the platform tells
        if isinstance(lines, PlanRefused):
            if tools is session.tools or lines.rule == PANIC_ONCE:
                hand.say(())
                return make_refusal(lines, session.tools.environment)
            refused = lines  # what the journal knew could allow more
            lines = list_lines_unproven(tools, refused)
    except (Refused, Busy):
        raise
    except Exception:  # noqa: BLE001 - whatever else is broken too, there are lines to say
        lines = hand.lines(without_api=True)
    hand.say(lines)
    what = f"nothing was changed, because it could not be recorded: {error.what}"
    if refused is None:
        return PartlyDone(what, where=where, hint=find_typed_line(lines))
    return Refused(
        f"{what}; without it, {refused.reason}",
        where=where,
        rule=refused.rule,
        options=(
            f"what is live, and what could be returned to: `backout card -e {session.tools.environment}`",
            *(f"you know that it was well: `{line[2:]}`" for line in lines if line.startswith("# npx ")),
            f"repair the journal, then panic again: {error.hint}",
        ),
        hint=f"backout card -e {session.tools.environment}",
    )
