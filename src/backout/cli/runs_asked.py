"""`backout runs approve`, `pause` and `abort`: what a person asks of a run; its driver obeys at the next boundary."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import REASON, command, pass_shell
from backout.cli.support.runs import find_run, open_journal
from backout.escaping import shorten
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.report.event_records import make_run_record
from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.incident.incident import Run
    from backout.ports import Journal


@command("approve", short_help="Approve the plan of a run that waits for it.")
@click.argument("run")
@click.option("-m", "--message", type=REASON, metavar="WHY", required=True, help="The reason; recorded in the journal.")
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@pass_shell
def approve(shell: Shell, *, run: str, message: str, typed: str | None) -> None:
    """Approve the plan of a run that waits for it, by the plan's hash; you are shown the plan, and asked.

    It counts for `approvals.expires` and changes nothing by itself: `backout runs resume` goes on. Exit code 0 when it
    is recorded, 3 when the run waits for no approval, when you may not give it, or when you said no.
    """
    from backout.cli.support.confirm import confirm
    from backout.cli.support.paint import paint_for
    from backout.report.plans import format_plan
    from backout.wiring.records import find_actor

    found = find_run(open_journal(shell), run)
    shell.take(environment=found.environment.partition("/")[0])
    config, out = shell.config(), shell.output
    whose = f"plan {found.plan.hash[:12]} of run {found.id}, asked for by {shorten(found.actor)}"
    out.say(format_plan(found.plan, width=out.talk.width, paint=paint_for(out.talk)) + f"\n\n{whose}")
    _say_preview(shell, found)
    why = confirm(shell, config, f"approve run {found.id}", message=message, typed=typed)
    journal = open_journal(shell)
    journal.ask(found.id, "approve", actor=find_actor(), reason=why)
    after = find_run(journal, found.id)
    assert after.approval is not None
    until = format_time(after.approval.expires_at)
    out.result("run", make_run_record(after), f"run {after.id} is approved until {until}; nothing was changed yet")
    out.next(f"backout runs resume {after.id}", f"backout runs abort {after.id} -m WHY")


def _say_preview(shell: Shell, run: Run) -> None:
    """Say which rows the run would write, where the plan does not name them, as far as that was counted."""
    from backout.runbook.recovery.previews import read_preview, rescues_rows

    if not rescues_rows(run.plan):
        return
    found = read_preview(open_journal(shell), run)
    if found is None or found.report is None:
        why = "nobody has counted them" if found is None else found.why or "they are being counted"
        shell.output.say(f"which rows it would write is not known: {why}")
        return
    from backout.cli.db.rescue_table import format_rescue

    counted = f"it would write, as counted at {format_time(found.at)}:"
    shell.output.say(f"\n{counted}\n{format_rescue(shell, found.report, would=True)}")


@command("pause", short_help="Stop a run at its next step boundary, until it is resumed.")
@click.argument("run")
@click.option("-m", "--message", type=REASON, metavar="WHY", required=True, help="The reason; recorded in the journal.")
@pass_shell
def pause(shell: Shell, *, run: str, message: str) -> None:
    """Have a run stop at its next step boundary, wherever it is driven; no step in flight is cancelled.

    It stays unfinished and keeps its environment until `backout runs resume` or `abort`. What it has closed stays
    closed. Exit code 0 when that is recorded, 3 when the run is over or paused already; the paused command ends with 5.
    """
    from backout.wiring.records import find_actor

    journal = open_journal(shell)
    found = find_run(journal, run)
    journal.ask(found.id, "pause", actor=find_actor(), reason=shell.mask_reason(message))
    after = find_run(journal, found.id)
    if after.state is RunState.RUNNING:
        said = f"run {after.id} is asked to pause at its next step boundary (driven by {after.holder})"
    else:
        said = f"run {after.id} is paused: {after.steps_done} of {len(after.plan.steps)} steps are done"
    closed = _explain_closed(journal, after)
    shell.output.result("run", make_run_record(after) | {"closed": bool(closed)}, said)
    if closed:
        shell.output.warn(closed)
    elif after.plan.kind in (PlanKind.GUARD, PlanKind.RAMP):
        shell.output.warn(f"nothing watches the deployment of {after.environment} until the run is resumed")
    elif after.steps_done:
        shell.output.warn(f"what is done stays as it is: {after.environment} may be between two states")
    shell.output.next(f"backout runs resume {after.id}", f"backout runs abort {after.id} -m WHY")


def _explain_closed(journal: Journal, run: Run) -> str:
    """Return what a run has closed, and until when; "" while nothing is closed."""
    from backout.runbook.recover.deadline import find_noted_outage, make_outage

    noted = find_noted_outage(journal, run.environment)
    if noted is None or noted["run"] != run.id:
        return ""
    outage, name = make_outage(noted), shlex.quote(run.environment)
    return (
        f"{run.environment} stays closed meanwhile (page, fence, queues), since {format_time(outage.since)}; its "
        f"deadline {format_time(outage.deadline)} stands, and nothing opens by itself: `backout recover --undo -e "
        f"{name}` takes it back"
    )


@command("abort", short_help="Give up a run, at its next step boundary.")
@click.argument("run")
@click.option("-m", "--message", type=REASON, metavar="WHY", default="", help="The reason; recorded in the journal.")
@pass_shell
def abort(shell: Shell, *, run: str, message: str) -> None:
    """Give up a run: its holder stops at the next step boundary; without a holder it ends at once.

    What was done is not undone; the environment is free afterwards.
    """
    from backout.wiring.records import find_actor

    journal = open_journal(shell)
    found = find_run(journal, run)
    journal.ask(found.id, "abort", actor=find_actor(), reason=message)
    after = find_run(journal, found.id)
    if after.state.is_over:
        human = f"run {after.id} is {after.state}"
    else:
        human = f"run {after.id} is asked to stop at its next step boundary (driven by {after.holder})"
    shell.output.result("run", make_run_record(after), human)
    shell.output.next(f"backout runs show {after.id}", f"backout status -e {after.environment}")
