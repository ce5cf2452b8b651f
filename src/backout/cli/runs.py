"""`backout runs`: list and show runs, and what a person asks of them; nothing is decided here."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import click

from backout.cli.runs_asked import abort, approve, pause
from backout.cli.support.also_back import ALSO_BACK
from backout.cli.support.glass import BREAK_GLASS
from backout.cli.support.options import REASON, group, pass_shell
from backout.cli.support.runs import find_run, open_journal
from backout.cli.support.style import Tone
from backout.errors import UsageError
from backout.escaping import shorten
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.steps.objects import CompareObjectsStep
from backout.model.steps.recovery import RecoverReportStep
from backout.report.decisions import list_decisions
from backout.report.event_records import make_run_record
from backout.report.guard.run_end import describe_end
from backout.report.text import wrap_text
from backout.report.times import format_ago, format_clock, format_day, format_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.cli.support.shell import Shell
    from backout.journal.stored import StoredJournal
    from backout.model.guard.shift import Acceptance
    from backout.model.incident.incident import Event, Run
    from backout.model.plan import Json, Plan
    from backout.report.guard.run_end import RunEnd

_MOMENTS = (1e9, 1e10)
"""Numbers this large are Unix seconds in an event: nothing else in one is."""
TONES = {
    RunState.RUNNING: Tone.NOTE,
    RunState.INTERRUPTED: Tone.WARN,
    RunState.BLOCKED: Tone.WARN,
    RunState.PAUSED: Tone.WARN,
    RunState.WAITING: Tone.WARN,
    RunState.DONE: Tone.GOOD,
    RunState.FAILED: Tone.BAD,
    RunState.ABORTED: Tone.DIM,
}

_GO_ON = ("backout runs resume {run}", "backout runs abort {run} -m WHY")
_NEXT = {
    RunState.INTERRUPTED: _GO_ON,
    RunState.PAUSED: _GO_ON,
    RunState.WAITING: ("backout runs approve {run} -m WHY", "backout runs abort {run} -m WHY"),
}
"""What to type about a run that is left in a state."""


@group("runs", short_help="List, show, approve, pause, resume and abort runs.")
def runs() -> None:
    """List, show, approve, pause, resume and abort runs."""


runs.add_command(approve)
runs.add_command(pause)
runs.add_command(abort)


def make_end_record(run: Run, end: RunEnd) -> dict[str, object]:
    """Return how a run ended as JSON values: a watch's verdict and what followed, or whether a change is well."""
    watched = run.plan.kind is PlanKind.GUARD
    return {
        "verdict": end.verdict or None,
        "action": end.action or None,
        "rule": end.rule or None,
        "reason": (end.reason or None) if watched else None,
        "verified": end.verified,
        "accepted": [
            {"shift": each.shift, "by": each.by or None, "at": format_time(each.at), "why": each.why}
            for each in end.accepted
        ],
    }


def _find_end(journal: StoredJournal, run: Run) -> RunEnd:
    from backout.runbook.incident.ends import read_end

    return read_end(journal, journal, run)


@runs.command("list", short_help="List all runs, newest first.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most this many.")
@pass_shell
def list_(shell: Shell, *, limit: int) -> None:
    """List the runs, newest first."""
    from backout.wiring import clock

    journal = open_journal(shell)
    asked = shell.flags.environment
    wanted = (run for run in journal.walk_runs() if asked in {None, run.environment.partition("/")[0]})
    found = [(run, _find_end(journal, run)) for run in islice(wanted, limit)]
    out, now = shell.output, clock.now()
    several = len({run.environment for run, _ in found}) > 1
    head: tuple[str, ...] = ("RUN", "ENVIRONMENT", "STATE", "VERDICT", "STARTED", "WHY")
    rows: list[tuple[str, ...]] = [
        (
            run.id,
            run.environment,
            out.style.badge(_describe_state(run), TONES[run.state]),
            describe_end(run, end),
            format_ago(run.started_at, now),
            "; ".join((*list_decisions(run), shorten(run.plan.why))),
        )
        for run, end in found
    ]
    if not several:  # a column with the same text in each row wastes width
        head, rows = _drop_column(head, 1), [_drop_column(row, 1) for row in rows]
    records = [make_run_record(run) | make_end_record(run, end) for run, end in found]
    out.result("runs", {"runs": records}, out.table(head, rows, whole=True) or "no runs yet")
    for run, _ in found:
        if run.state in _NEXT:
            out.next(*(line.format(run=run.id) for line in _NEXT[run.state][:1]))


def _describe_state(run: Run) -> str:
    """Return the state, with the number of finished steps while it is not done."""
    return str(run.state) if run.state is RunState.DONE else f"{run.state} {run.steps_done}/{len(run.plan.steps)}"


def _drop_column(cells: tuple[str, ...], column: int) -> tuple[str, ...]:
    return cells[:column] + cells[column + 1 :]


@runs.command("show", short_help="Show one run: its plan, its steps, its events.")
@click.argument("run")
@pass_shell
def show(shell: Shell, *, run: str) -> None:
    """Show one run: its plan, what became of each step, and every event."""
    journal = open_journal(shell)
    found = find_run(journal, run)
    events = list(journal.events(run=found.id))
    from backout.report.event_records import make_event_record, make_plan_record
    from backout.runbook.recovery.previews import make_preview_record, read_preview

    payload = (
        make_run_record(found)
        | make_end_record(found, _find_end(journal, found))
        | {
            "plan": make_plan_record(found.plan),
            "events": [make_event_record(event) for event in events],
            "preview": make_preview_record(read_preview(journal, found)),
        }
    )
    shell.output.result("run", payload, _format_text(shell, found, _find_end(journal, found), events))
    if found.state in _NEXT:
        shell.output.next(*(line.format(run=found.id) for line in _NEXT[found.state]))


def _format_text(shell: Shell, run: Run, end: RunEnd, events: list[Event]) -> str:
    style = shell.output.style
    state = style.badge(run.state, TONES[run.state])
    lines = [
        (
            f"{style.strong(run.id)}  {state}  {run.environment}  {format_day(run.started_at)} "
            f"{format_clock(run.started_at)} UTC"
        ),
        *wrap_text(shorten(run.plan.why), style.width, indent="  "),
        f"  by {run.actor}" + (f", driven by {run.holder}" if run.holder else ""),
    ]
    lines += [line for each in list_decisions(run) for line in wrap_text(each, style.width, indent="  ")]
    said = ": ".join(part for part in (describe_end(run, end), end.reason or end.why) if part)
    lines += wrap_text(said, style.width, indent="  ") if said else []
    lines += [part for each in end.accepted for part in wrap_text(_describe_acceptance(each), style.width, indent="  ")]
    lines.append("")
    done = {event.step for event in events if event.kind == "step.ok"}
    for number, step in enumerate(run.plan.steps):
        sign = style.badge(step.title, Tone.GOOD) if number in done else style.dim(f"- {step.title}")
        lines.append(f"  {number + 1}. {sign}")
    lines.append("")
    rows = [(format_clock(e.at), e.kind, "" if e.step is None else str(e.step + 1), describe_event(e)) for e in events]
    lines.append(shell.output.table(("UTC", "EVENT", "STEP", "WHAT"), rows, whole=True))
    return "\n".join(lines)


def describe_event(event: Event) -> str:
    """Return what an event says, as far as that fits a line."""
    if event.kind == "run.submitted":
        return shorten(str(event.data.get("reason") or ""))
    told = ((key, value) for key, value in event.data.items() if _says_something(key, value))
    return ", ".join(f"{key}: {_format_value(value)}" for key, value in told)


def _says_something(key: str, value: Json) -> bool:
    return value not in (None, "") and not isinstance(value, dict | list) and (key, value) != ("attempt", 1)


def _format_value(value: Json) -> str:
    """Return a value of an event as a person reads it: moments by the clock, as everywhere else."""
    if isinstance(value, float) and _MOMENTS[0] <= value < _MOMENTS[1]:
        return f"{format_day(value)} {format_clock(value)} UTC"
    return shorten(str(value))


def _describe_acceptance(found: Acceptance) -> str:
    return f"{found.by or 'someone'} accepted {found.shift} at {format_clock(found.at)} UTC: {shorten(found.why)}"


@runs.command("resume", short_help="Continue an interrupted or paused run.")
@click.argument("run")
@click.option(
    "--decide",
    type=click.Choice(["done", "retry"]),
    help="For a blocked run: the uncertain step is done, or is to be tried again.",
)
@click.option(
    "-m",
    "--message",
    type=REASON,
    metavar="WHY",
    default="",
    help="The reason, of a decision too; recorded in the journal.",
)
@BREAK_GLASS
@pass_shell
def resume(shell: Shell, *, run: str, decide: str | None, message: str) -> int:
    """Continue an interrupted or paused run: completed steps are never repeated, and an open one is checked first.

    A pause that the run's driver has not obeyed yet is taken back; then the run simply goes on there.
    """
    from backout.wiring.records import find_actor

    journal = open_journal(shell)
    found = find_run(journal, run)
    if found.state in (RunState.FAILED, RunState.ABORTED):
        raise UsageError(
            f"there is nothing to resume: the run is over ({found.state})",
            where=found.id,
            hint=f"backout runs show {found.id}",
        )
    if decide is not None:
        journal.ask(found.id, f"decide:{decide}", actor=find_actor(), reason=message)
    if found.pause is not None:
        journal.ask(found.id, "resume", actor=find_actor(), reason=shell.mask_reason(message))
        found = find_run(journal, found.id)
        if found.state is RunState.RUNNING:
            shell.output.result("run", make_run_record(found), f"run {found.id} goes on, driven by {found.holder}")
            return 0
    go_on = _find_way_on(found.plan)
    if go_on is not None:
        return go_on(shell, found)
    shell.take(environment=found.environment)
    from backout.cli.support.session import open_session

    guarding = found.plan.kind is PlanKind.GUARD or bool(found.plan.cause)
    forward = found.plan.kind is PlanKind.FORWARD
    name = "guard" if guarding else "roll-forward" if forward else "rollback"
    session = open_session(shell, shell.config(), name, stream=guarding)
    if found.state is RunState.DONE:
        shell.output.say(f"nothing is left to do: run {found.id} is done; this is what it did")
    ended = session.drive(found.id)
    if guarding:
        from backout.cli.guard.guard import finish as finish_guard

        return finish_guard(session, ended)
    if forward:
        from backout.cli.roll_forward import finish as finish_forward

        return finish_forward(session, ended)
    from backout.cli.rollback import finish as finish_rollback

    return finish_rollback(session, ended)


def _find_way_on(plan: Plan) -> Callable[[Shell, Run], int] | None:
    """Return what continues a plan of its kind, None for a rollback, a watch or a roll-forward."""
    if plan.kind is PlanKind.BACKUP:
        from backout.cli.db.backup import resume as resume_backup

        return resume_backup
    if plan.kind is PlanKind.JOBS:
        from backout.cli.release.jobs import resume as resume_jobs

        return resume_jobs
    if plan.has(RecoverReportStep):
        from backout.cli.recover import resume as resume_recovery

        return resume_recovery
    if plan.has(CompareObjectsStep):
        from backout.cli.objects.restore import resume as resume_objects

        return resume_objects
    if plan.kind is PlanKind.RECOVER and all(step.action.startswith("db_") for step in plan.steps):
        from backout.cli.db.restore import resume as resume_restore

        return resume_restore
    if plan.kind is PlanKind.SECRETS:
        from backout.cli.secrets.push import resume as resume_secrets

        return resume_secrets
    return None


@runs.command("undo", short_help="Take back what a recovery did.")
@click.argument("run")
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; recorded in the journal.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan and change nothing.")
@BREAK_GLASS
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@ALSO_BACK
@pass_shell
def undo(
    shell: Shell, *, run: str, message: str | None, dry_run: bool, typed: str | None, also_back: tuple[str, ...]
) -> int:
    """Take a complete recovery back, to the moment of its fence, from whatever phase it came to."""
    found = find_run(open_journal(shell), run)
    if not found.plan.has(RecoverReportStep):
        where, env = found.id, found.environment
        ways = f"backout db restore {found.id} --undo -e {env}  # or: backout objects restore --undo -e {env}"
        raise UsageError("only a complete recovery is taken back by its run", where=where, hint=ways)
    from backout.cli.recover import Way, take_back

    shell.take(environment=found.environment)
    return take_back(shell, found.id, Way(message, typed, also_back, dry_run))
