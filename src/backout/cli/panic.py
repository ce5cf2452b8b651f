"""`backout panic`: one command for the worst minute: no questions, the safest allowed action, and how to undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli import outcome
from backout.cli.by_hand import ByHand, to_type
from backout.cli.options import REASON, command, pass_shell
from backout.errors import BackoutError, Busy, Interrupted, PartlyDone, Refused
from backout.model.incident import RunState
from backout.model.plan import PANIC_ONCE, PlanKind, PlanRefused

if TYPE_CHECKING:
    from backout.cli.bench import Bench
    from backout.cli.shell import Shell
    from backout.model.incident import Run
    from backout.model.plan import Plan


@command(
    "panic",
    short_help="Go back now: no questions, the safest allowed action.",
    epilog="""
Examples:
  backout panic -e production
  backout panic -e production -m "checkout is down"
  backout panic -e production --dry-run   what it would do; nothing is touched
""",
)
@click.option(
    "-m", "--message", type=REASON, metavar="WHY", default="panic", help="Why; goes into the deployment's message."
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what it would do now, and touch nothing.")
@pass_shell
def panic(shell: Shell, *, message: str, dry_run: bool) -> int:
    """Go back to the last stable version now, within 15 seconds and without a question, production or not.

    It does only what the rules allow: nothing is forced, no old secret comes back. A watch that runs is ended first.
    After a rollback of the last 15 minutes it does not go back once more. It prints how to undo what it did.
    """
    from backout.journal.rows import JournalUnavailable  # noqa: PLC0415 - only commands that act pay for it

    hand = ByHand(shell)
    try:
        bench, message = _opened(shell, hand), shell.masked(message)
        try:
            return _show(bench, message) if dry_run else _go_back(bench, hand, message)
        except JournalUnavailable as error:
            if hand.is_done:
                raise
            raise _without_journal(bench, hand, message, error) from error
    except (Refused, Busy, Interrupted):
        raise  # they are answers, and name what is allowed instead
    except Exception as error:
        if not hand.has_said:
            hand.add_to(error)
        raise


def _opened(shell: Shell, hand: ByHand) -> Bench:
    from backout.cli.bench import open_bench  # noqa: PLC0415 - only commands that act pay for it
    from backout.runbook.panic import WITHIN_S  # noqa: PLC0415 - same

    hand.config = shell.config(in_need=True)
    bench = open_bench(shell, hand.config, "panic", within_s=WITHIN_S)
    hand.tools = bench.tools
    return bench


def _go_back(bench: Bench, hand: ByHand, message: str) -> int:
    from backout.cli.bench import busy  # noqa: PLC0415
    from backout.cli.rollback import refusal  # noqa: PLC0415
    from backout.runbook.panic import stand_aside, way_back  # noqa: PLC0415

    keeper = stand_aside(bench.tools)
    if keeper is not None:
        if keeper.plan.kind is not PlanKind.ROLLBACK or keeper.state is not RunState.INTERRUPTED:
            raise busy(keeper)
        bench.shell.output.say(f"picking up run {keeper.id}, a rollback that was interrupted")
        return _finish(bench, hand, bench.drive(keeper.id))
    plan = way_back(bench.tools, message)
    if isinstance(plan, PlanRefused):
        raise refusal(plan, bench.tools.environment)
    args = plan.step("activate").args
    bench.shell.output.say(f"going back from version {args['leaving']} to {args['version']}")
    return _finish(bench, hand, bench.drive(bench.submit(plan, message)))


def _show(bench: Bench, message: str) -> int:
    """Say what a panic would do now: what it would end or carry on, and the plan; refused as it would be."""
    from backout.cli.bench import busy  # noqa: PLC0415
    from backout.cli.rollback import refusal  # noqa: PLC0415
    from backout.runbook.panic import in_the_way, way_back  # noqa: PLC0415

    shell, tools = bench.shell, bench.tools
    keeper, ends = in_the_way(tools)
    if keeper is not None and not ends:
        if keeper.plan.kind is not PlanKind.ROLLBACK or keeper.state is not RunState.INTERRUPTED:
            raise busy(keeper)
        shell.output.say(f"it would pick up run {keeper.id}, a rollback that was interrupted, by this plan:\n")
        plan: Plan | PlanRefused = keeper.plan
    else:
        if keeper is not None:
            shell.output.say(f"it would end run {keeper.id} ({keeper.plan.kind}) first\n")
        plan = way_back(tools, message)
    only_read = getattr(tools.runs, "only_read", None)
    if only_read is not None:  # it would come to nothing: what is done must be recorded
        raise only_read
    if isinstance(plan, PlanRefused):
        raise refusal(plan, tools.environment)
    args = plan.step("activate").args
    facts = {
        "from_version": args["leaving"],
        "to_version": args["version"],
        "ends": keeper.id if keeper is not None and ends else None,
    }
    return outcome.dry_run(shell, "panic", plan, facts)


def _finish(bench: Bench, hand: ByHand, run: Run) -> int:
    hand.is_done = True
    shell, tools = bench.shell, bench.tools
    record = outcome.rollback_record(tools, run)
    undo = outcome.undo_commands(run)
    record["undo"] = [line.partition("  #")[0] for line in undo]
    shell.output.result("panic", record, outcome.live_sentence(record, tools, run))
    shell.output.next(f"backout status -e {run.environment}", *undo)
    bench.renew_card()
    return outcome.exit_code(tools, run)


def _without_journal(bench: Bench, hand: ByHand, message: str, error: BackoutError) -> BackoutError:
    """Return the error of a panic without a journal: what is done must be recorded, so a person types it."""
    from backout.cli.rollback import refusal  # noqa: PLC0415
    from backout.runbook.no_journal import as_far_as_read  # noqa: PLC0415
    from backout.runbook.panic import lines_unproven, lines_without_journal  # noqa: PLC0415

    where, refused = error.where, None
    try:
        tools = as_far_as_read(bench.tools)
        lines = lines_without_journal(tools, message)
        hand.ways = ()  # the plan says it, by what the platform tells
        if isinstance(lines, PlanRefused):
            if tools is bench.tools or lines.rule == PANIC_ONCE:
                hand.say(())
                return refusal(lines, bench.tools.environment)
            refused = lines  # what the journal knew could allow more
            lines = lines_unproven(tools, refused)
    except (Refused, Busy):
        raise
    except Exception:  # noqa: BLE001 - whatever else is broken too, there are lines to say
        lines = hand.lines(without_api=True)
    hand.say(lines)
    what = f"nothing was changed, because it could not be recorded: {error.what}"
    if refused is None:
        return PartlyDone(what, where=where, hint=to_type(lines))
    return Refused(
        f"{what}; without it, {refused.reason}",
        where=where,
        rule=refused.rule,
        options=(
            f"what is live, and what could be returned to: `backout card -e {bench.tools.environment}`",
            *(f"you know that it was well: `{line[2:]}`" for line in lines if line.startswith("# npx ")),
            f"mend the journal, then panic again: {error.hint}",
        ),
        hint=f"backout card -e {bench.tools.environment}",
    )
