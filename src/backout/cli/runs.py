"""`backout runs`: list, show, resume and abort runs; the journal speaks, nothing is decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli import outcome
from backout.cli.options import REASON, group, pass_shell
from backout.cli.style import Tone
from backout.errors import UsageError
from backout.escaping import brief
from backout.model.incident import RunState
from backout.model.plan import PlanKind
from backout.report.run_end import in_words
from backout.report.text import wrapped
from backout.report.times import ago, clock, day, rfc3339

if TYPE_CHECKING:
    from backout.cli.shell import Shell
    from backout.journal.sqlite import SqliteJournal
    from backout.model.incident import Event, Run
    from backout.model.plan import Json
    from backout.model.shift import Acceptance
    from backout.report.run_end import RunEnd

_MOMENTS = (1e9, 1e10)
"""Numbers that are Unix seconds in an event: nothing else that one holds is so large."""
TONES = {
    RunState.RUNNING: Tone.NOTE,
    RunState.INTERRUPTED: Tone.WARN,
    RunState.BLOCKED: Tone.WARN,
    RunState.DONE: Tone.GOOD,
    RunState.FAILED: Tone.BAD,
    RunState.ABORTED: Tone.DIM,
}


@group("runs", short_help="List, show, resume and abort runs.")
def runs() -> None:
    """List, show, resume and abort runs."""


def _journal(shell: Shell) -> SqliteJournal:
    from backout import wiring  # noqa: PLC0415 - only commands that read the journal pay for it

    return wiring.journal(shell.config())


def run_record(run: Run) -> dict[str, object]:
    """Return a run as JSON values."""
    return {
        "run_id": run.id,
        "environment": run.environment,
        "kind": run.plan.kind,
        "state": run.state,
        "why": run.plan.why,
        "started_at": rfc3339(run.started_at),
        "ended_at": None if run.ended_at is None else rfc3339(run.ended_at),
        "steps_done": run.steps_done,
        "steps": len(run.plan.steps),
        "holder": run.holder,
        "actor": run.actor,
    }


def end_record(run: Run, end: RunEnd) -> dict[str, object]:
    """Return how a run ended as JSON values: of a watch its verdict and what followed, of a change if it is well."""
    watched = run.plan.kind is PlanKind.GUARD
    return {
        "verdict": end.verdict or None,
        "action": end.action or None,
        "rule": end.rule or None,
        "reason": (end.reason or None) if watched else None,
        "verified": end.verified,
        "accepted": [
            {"shift": each.shift, "by": each.by or None, "at": rfc3339(each.at), "why": each.why}
            for each in end.accepted
        ],
    }


def _end(journal: SqliteJournal, run: Run) -> RunEnd:
    from backout.runbook.ends import read_end  # noqa: PLC0415 - only commands that read the journal pay for it

    return read_end(journal, journal, run)


@runs.command("list", short_help="All runs, newest first.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most this many.")
@pass_shell
def list_(shell: Shell, *, limit: int) -> None:
    """List the runs, newest first."""
    from backout.providers.clock import SystemClock  # noqa: PLC0415

    journal = _journal(shell)
    found = [(run, _end(journal, run)) for run in journal.runs(shell.flags.environment)[:limit]]
    out, now = shell.output, SystemClock().now()
    several = len({run.environment for run, _ in found}) > 1
    head: tuple[str, ...] = ("RUN", "ENVIRONMENT", "STATE", "VERDICT", "STARTED", "WHY")
    rows: list[tuple[str, ...]] = [
        (
            run.id,
            run.environment,
            out.style.badge(_state(run), TONES[run.state]),
            in_words(run, end),
            ago(run.started_at, now),
            brief(run.plan.why),
        )
        for run, end in found
    ]
    if not several:  # a column that says the same in each line takes the room of one that does not
        head, rows = _without(head, 1), [_without(row, 1) for row in rows]
    records = [run_record(run) | end_record(run, end) for run, end in found]
    out.result("runs", {"runs": records}, out.table(head, rows, whole=True) or "no runs yet")
    for run, _ in found:
        if run.state is RunState.INTERRUPTED:
            out.next(f"backout runs resume {run.id}")


def _state(run: Run) -> str:
    """Return the state, of what is not done with the steps that are."""
    return str(run.state) if run.state is RunState.DONE else f"{run.state} {run.steps_done}/{len(run.plan.steps)}"


def _without(cells: tuple[str, ...], column: int) -> tuple[str, ...]:
    return cells[:column] + cells[column + 1 :]


def _found(journal: SqliteJournal, run: str) -> Run:
    found = journal.find(run)
    if found is None:
        raise UsageError(f"no run '{run}'", hint="backout runs list")
    return found


@runs.command("show", short_help="One run: its plan, its steps, its events.")
@click.argument("run")
@pass_shell
def show(shell: Shell, *, run: str) -> None:
    """Show one run: its plan, what happened to each step, and every event."""
    journal = _journal(shell)
    found = _found(journal, run)
    events = list(journal.events(run=found.id))
    from backout.cli.live import event_record  # noqa: PLC0415

    payload = (
        run_record(found)
        | end_record(found, _end(journal, found))
        | {
            "plan": outcome.plan_record(found.plan),
            "events": [event_record(event) for event in events],
        }
    )
    shell.output.result("run", payload, _text(shell, found, _end(journal, found), events))
    if found.state is RunState.INTERRUPTED:
        shell.output.next(f"backout runs resume {found.id}", f"backout runs abort {found.id} -m WHY")


def _text(shell: Shell, run: Run, end: RunEnd, events: list[Event]) -> str:
    style = shell.output.style
    state = style.badge(run.state, TONES[run.state])
    lines = [
        f"{style.strong(run.id)}  {state}  {run.environment}  {day(run.started_at)} {clock(run.started_at)} UTC",
        *wrapped(brief(run.plan.why), style.width, indent="  "),
        f"  by {run.actor}" + (f", driven by {run.holder}" if run.holder else ""),
    ]
    said = ": ".join(part for part in (in_words(run, end), end.reason or end.why) if part)
    lines += wrapped(said, style.width, indent="  ") if said else []
    lines += [part for each in end.accepted for part in wrapped(_accepted(each), style.width, indent="  ")]
    lines.append("")
    done = {event.step for event in events if event.kind == "step.ok"}
    for number, step in enumerate(run.plan.steps):
        sign = style.badge(step.title, Tone.GOOD) if number in done else style.dim(f"- {step.title}")
        lines.append(f"  {number + 1}. {sign}")
    lines.append("")
    rows = [(clock(e.at), e.kind, "" if e.step is None else str(e.step + 1), _told(e)) for e in events]
    lines.append(shell.output.table(("UTC", "EVENT", "STEP", "WHAT"), rows, whole=True))
    return "\n".join(lines)


def _told(event: Event) -> str:
    if event.kind == "run.submitted":
        return brief(str(event.data.get("reason") or ""))
    told = ((key, value) for key, value in event.data.items() if _says_something(key, value))
    return ", ".join(f"{key}: {_shown(value)}" for key, value in told)


def _says_something(key: str, value: Json) -> bool:
    return value not in (None, "") and not isinstance(value, dict | list) and (key, value) != ("attempt", 1)


def _shown(value: Json) -> str:
    """Return a value of an event as a person reads it: moments by the clock, as everywhere else."""
    if isinstance(value, float) and _MOMENTS[0] <= value < _MOMENTS[1]:
        return f"{day(value)} {clock(value)} UTC"
    return brief(str(value))


def _accepted(found: Acceptance) -> str:
    return f"{found.by or 'somebody'} accepted {found.shift} at {clock(found.at)} UTC: {brief(found.why)}"


@runs.command("resume", short_help="Go on with an interrupted run.")
@click.argument("run")
@click.option(
    "--decide",
    type=click.Choice(["done", "retry"]),
    help="For a blocked run: whether the step that may or may not have happened did, or is to be done again.",
)
@click.option(
    "-m", "--message", type=REASON, metavar="WHY", default="", help="Why you decide so; recorded in the journal."
)
@pass_shell
def resume(shell: Shell, *, run: str, decide: str | None, message: str) -> int:
    """Go on with an interrupted run: completed steps are never repeated, an open one is asked about first."""
    from backout import wiring  # noqa: PLC0415

    journal = _journal(shell)
    found = _found(journal, run)
    if found.state in (RunState.FAILED, RunState.ABORTED):
        raise UsageError(
            f"there is nothing to resume: the run is over ({found.state})",
            where=found.id,
            hint=f"backout runs show {found.id}",
        )
    if decide is not None:
        journal.ask(found.id, f"decide:{decide}", actor=wiring.actor(), reason=message)
    if found.plan.kind is PlanKind.BACKUP:
        from backout.cli.db_backup import resume as resume_backup  # noqa: PLC0415

        return resume_backup(shell, found)
    if found.plan.kind is PlanKind.RECOVER and all(step.action.startswith("db_") for step in found.plan.steps):
        from backout.cli.db_restore import resume as resume_restore  # noqa: PLC0415

        return resume_restore(shell, found)
    shell.take(environment=found.environment)
    if found.plan.kind is PlanKind.SECRETS:
        from backout.cli.secrets_push import resume as resume_secrets  # noqa: PLC0415

        return resume_secrets(shell, found)
    from backout.cli.bench import open_bench  # noqa: PLC0415

    guarding = found.plan.kind is PlanKind.GUARD or bool(found.plan.cause)
    forward = found.plan.kind is PlanKind.FORWARD
    name = "guard" if guarding else "roll-forward" if forward else "rollback"
    bench = open_bench(shell, shell.config(), name, stream=guarding)
    if found.state is RunState.DONE:
        shell.output.say(f"nothing is left to do: run {found.id} is done; this is what it did")
    ended = bench.drive(found.id)
    if guarding:
        from backout.cli.guard import finish as finish_guard  # noqa: PLC0415

        return finish_guard(bench, ended)
    if forward:
        from backout.cli.roll_forward import finish as finish_forward  # noqa: PLC0415

        return finish_forward(bench, ended)
    from backout.cli.rollback import finish as finish_rollback  # noqa: PLC0415

    return finish_rollback(bench, ended)


@runs.command("abort", short_help="Give up a run, at its next step boundary.")
@click.argument("run")
@click.option("-m", "--message", type=REASON, metavar="WHY", default="", help="Why; recorded in the journal.")
@pass_shell
def abort(shell: Shell, *, run: str, message: str) -> None:
    """Give up a run: its holder stops at the next step boundary; without a holder it ends at once.

    Nothing that was done is undone; the environment is free afterwards.
    """
    from backout import wiring  # noqa: PLC0415

    journal = _journal(shell)
    found = _found(journal, run)
    journal.ask(found.id, "abort", actor=wiring.actor(), reason=message)
    after = _found(journal, found.id)
    if after.state.is_over:
        human = f"run {after.id} is {after.state}"
    else:
        human = f"run {after.id} is asked to stop at its next step boundary (driven by {after.holder})"
    shell.output.result("run", run_record(after), human)
    shell.output.next(f"backout runs show {after.id}", f"backout status -e {after.environment}")
