"""`backout panic`: one command for the worst minute: no questions, the safest allowed action, and how to undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli import outcome
from backout.cli.options import command, pass_shell
from backout.errors import AuthError, BackoutError, PartlyDone, ProviderUnavailable
from backout.model.incident import RunState
from backout.model.plan import PlanKind, PlanRefused

if TYPE_CHECKING:
    from backout.cli.bench import Bench
    from backout.cli.shell import Shell
    from backout.model.incident import Run


@command(
    "panic",
    short_help="Go back now: no questions, the safest allowed action.",
    epilog="""
Examples:
  backout panic -e production
  backout panic -e production -m "checkout is down"
""",
)
@click.option("-m", "--message", metavar="WHY", default="panic", help="Why; goes into the deployment's message.")
@pass_shell
def panic(shell: Shell, *, message: str) -> int:
    """Go back to the last stable version now, within 15 seconds and without a question, production or not.

    It does only what the rules allow: nothing is forced, no old secret comes back. A watch that runs is ended first.
    After a rollback of the last 15 minutes it does not go back once more. It prints how to undo what it did.
    """
    from backout.cli.bench import open_bench  # noqa: PLC0415 - only commands that act pay for it
    from backout.journal.rows import JournalUnavailable  # noqa: PLC0415
    from backout.runbook.panic import WITHIN_S, lines_without_provider  # noqa: PLC0415

    config = shell.config(in_need=True)
    bench, message = open_bench(shell, config, "panic", within_s=WITHIN_S), shell.masked(message)
    try:
        try:
            return _go_back(bench, message)
        except JournalUnavailable as error:
            raise _by_hand(bench, message, error) from error
    except (ProviderUnavailable, AuthError) as error:
        lines = lines_without_provider(bench.tools)
        _say(bench, lines)
        error.hint = lines[0] if lines else error.hint
        raise


def _go_back(bench: Bench, message: str) -> int:
    from backout.cli.bench import busy  # noqa: PLC0415
    from backout.cli.rollback import refusal  # noqa: PLC0415
    from backout.runbook.panic import stand_aside, way_back  # noqa: PLC0415

    keeper = stand_aside(bench.tools)
    if keeper is not None:
        if keeper.plan.kind is not PlanKind.ROLLBACK or keeper.state is not RunState.INTERRUPTED:
            raise busy(keeper)
        bench.shell.output.say(f"picking up run {keeper.id}, a rollback that was interrupted")
        return _finish(bench, bench.drive(keeper.id))
    plan = way_back(bench.tools, message)
    if isinstance(plan, PlanRefused):
        raise refusal(plan, bench.tools.environment)
    args = plan.step("activate").args
    bench.shell.output.say(f"going back from version {args['leaving']} to {args['version']}")
    return _finish(bench, bench.drive(bench.submit(plan, message)))


def _finish(bench: Bench, run: Run) -> int:
    shell, tools = bench.shell, bench.tools
    record = outcome.rollback_record(tools, run)
    undo = outcome.undo_commands(run)
    record["undo"] = [line.partition("  #")[0] for line in undo]
    shell.output.result("panic", record, outcome.live_sentence(record, tools, run))
    shell.output.next(f"backout status -e {run.environment}", *undo)
    bench.renew_card()
    return outcome.exit_code(tools, run)


def _by_hand(bench: Bench, message: str, error: BackoutError) -> BackoutError:
    """Return the error of a panic without a journal: what is done must be recorded, so a person types it."""
    from backout.cli.rollback import refusal  # noqa: PLC0415
    from backout.runbook.panic import lines_without_journal  # noqa: PLC0415

    lines = lines_without_journal(bench.tools, message)
    if isinstance(lines, PlanRefused):
        _say(bench, ())
        return refusal(lines, bench.tools.environment)
    _say(bench, lines)
    return PartlyDone(
        f"nothing was changed, because it could not be recorded: {error.what}", where=error.where, hint=lines[0]
    )


def _say(bench: Bench, lines: tuple[str, ...]) -> None:
    out, tools = bench.shell.output, bench.tools
    path = tools.cards.path() if tools.cards is not None else None
    if lines:
        out.complain("\n".join(["by hand:", *(f"  $ {line}" for line in lines)]))
    if path is not None:
        out.complain(f"the card, written when all was well: {path}")
