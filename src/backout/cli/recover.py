"""`backout recover`: everything back to one moment, as one run; and the moments that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.also_back import ALSO_BACK
from backout.cli.support.glass import BREAK_GLASS, break_glass_as_typed
from backout.cli.support.options import REASON, command, pass_shell
from backout.errors import BackoutError, PartlyDone, UsageError, WorldMoved
from backout.escaping import shorten
from backout.model.incident.incident import RunState
from backout.model.value import Value
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from backout.cli.support.session import Session
    from backout.cli.support.shell import Shell
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.runbook.recover.tools import RecoverTools

_HASH = 8
_NOT_SHOWN = 7
_DEADLINE = "1h"


class Way(Value, frozen=True):
    """How a recovery is confirmed and ends: a reason, the environment's name as typed, what else may go back."""

    message: str | None
    typed: str | None
    also_back: tuple[str, ...] = ()
    dry_run: bool = False
    no_wait: bool = False


@command(
    "recover",
    short_help="Take code, database, objects and secrets back.",
    epilog="""
Examples:
  backout recover --to "2026-11-25 14:03:00" -e production --dry-run
  backout recover --to before-import -e production -m "a bad import" --confirm production
  backout recover --damage "during 0d0257dc" -e production -m WHY --confirm production
  backout recover -e production            # goes on with an interrupted one
  backout recover --accept -e production -m "that object is gone for good" --confirm production
  backout recover --undo -e production -m "it was the wrong moment" --confirm production
  backout recover --list -e production
""",
)
@click.option("--to", metavar="TIME|POINT", help="The moment: a time, a recovery point, or as of `db restore`.")
@click.option("--damage", metavar="TARGET", help="What did the damage: only its rows are copied back (`db restore`).")
@click.option("--only", metavar="PARTS", help="Only these of code,database,objects,secrets.")
@click.option("--swap", is_flag=True, help="Replace the whole database, even where damaged rows alone could come back.")
@click.option("--deadline", default=_DEADLINE, show_default=True, metavar="DURATION", help="People are told after it.")
@click.option("--plan", "planned", metavar="HASH", help="Run only the plan of this hash, as --dry-run printed it.")
@click.option("--no-wait", is_flag=True, help="End after reading back what is live; no verification.")
@click.option("--undo", is_flag=True, help="Take the newest recovery back, from whatever phase it came to.")
@click.option("--accept", is_flag=True, help="Go on with one although its second check failed: you have looked.")
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; goes into the report.")
@BREAK_GLASS
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan, with what each part loses, and change nothing.")
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@ALSO_BACK
@click.option("--list", "lists", is_flag=True, help="List the recovery points: what each has, what it would lose.")
@click.option("--mark", metavar="NAME", help="Record a recovery point now.")
@pass_shell
def recover(
    shell: Shell,
    *,
    to: str | None,
    damage: str | None,
    only: str | None,
    swap: bool,
    deadline: str,
    planned: str | None,
    no_wait: bool,
    undo: bool,
    accept: bool,
    message: str | None,
    dry_run: bool,
    typed: str | None,
    also_back: tuple[str, ...],
    lists: bool,
    mark: str | None,
) -> int:
    """Take everything back to one moment: code, database, objects and secrets, as one run.

    What can be prepared is prepared first. Then a maintenance page is shown, queues and schedules stop, a fence keeps
    everyone from the database, and its moment is kept as the undo point; from the first overwrite on a failure leaves
    everything closed. Only the damaged rows are copied back where that is enough. Without --to an interrupted recovery
    goes on.
    """
    if lists or mark is not None:
        from backout.cli.support.recovery_points import mark_point, show_points

        if lists and mark is not None:
            raise UsageError("--list and --mark are two commands", hint="backout recover --help")
        return show_points(shell) if mark is None else mark_point(shell, mark)
    way = Way(message, typed, also_back, dry_run, no_wait)
    if (undo or accept) and (to or damage or only or swap):
        word = "--undo takes back what the newest recovery did" if undo else "--accept goes on with an interrupted one"
        raise UsageError(f"{word}: it has no moment and no parts")
    if undo and accept:
        raise UsageError("--undo and --accept are two commands", hint="backout recover --help")
    if accept:
        return _accept(shell, way)
    if undo:
        return take_back(shell, None, way)
    from backout.cli.support.session import open_session
    from backout.config.scalars import parse_seconds
    from backout.plan.whole import add_agreed
    from backout.runbook.recover.prepare import RecoverAsk, prepare, skip_verification

    config = shell.config()
    session = open_session(shell, config, "recover")
    parts = tuple(filter(None, (word.strip() for word in (only or "").split(","))))
    unfinished = None if dry_run else session.in_the_way() or _find_left_with_jobs(session, to or damage)
    if unfinished is not None:
        return _go_on(session, unfinished, to or damage)
    if not (to or damage):
        hint = f"backout recover --list -e {config.name}"
        raise UsageError("no --to, and no interrupted recovery to go on with", where=config.name, hint=hint)
    tools = _open_tools(session, parts)
    ask = RecoverAsk(to or "", damage or "", parts, swap=swap, deadline_s=parse_seconds(deadline, "--deadline"))
    plan = add_agreed(prepare(tools, ask), also_back)
    plan = skip_verification(plan) if no_wait else plan
    if planned is not None and not plan.hash.startswith(planned.lower()):
        raise WorldMoved(
            f"the plan is {plan.hash[:_HASH]} by now, not {planned}; nothing was changed",
            where=config.name,
            hint="the same command with --dry-run shows it; a time such as `20 minutes ago` is another one each time",
        )
    words = [*(("--to", to) if to else ()), *(("--damage", damage) if damage else ())]
    words += [*(("--only", only) if only else ()), *(["--swap"] if swap else []), *(["--no-wait"] if no_wait else [])]
    words += ("--deadline", deadline) if deadline != _DEADLINE else ()
    return _run(session, tools, plan, ("recover", *words), way)


def take_back(shell: Shell, run: str | None, way: Way) -> int:
    """Take a recovery back: the newest one, or that of a run.

    Raises:
        UsageError: there is none.
        Busy: another process drives it.
    """
    from backout.cli.support.confirm import confirm
    from backout.cli.support.session import open_session
    from backout.runbook.recover.prepare import skip_verification
    from backout.runbook.recover.undo import end_run, find_undoable, give_back, prepare_undo

    config = shell.config()
    session = open_session(shell, config, "recover")
    tools = _open_tools(session, ())
    unfinished = session.in_the_way() or _find_left_with_jobs(session, None)
    if unfinished is not None and _find_undone(unfinished) and not way.dry_run:
        return _go_on(session, unfinished, None)
    if unfinished is not None and unfinished.state is RunState.RUNNING:
        from backout.cli.support.session import make_busy_error

        raise make_busy_error(unfinished)
    found = find_undoable(tools, run)
    from backout.runbook.recover.tools import look_how_far

    if not look_how_far(session.tools.journal, found.id)[1]:
        ends = (
            "would be ended, and what it stopped would go on"
            if way.dry_run
            else "is ended, and what it stopped goes on"
        )
        what = f"run {found.id} has overwritten nothing, and moved nobody: it {ends}"
        if way.dry_run:
            shell.output.result("recover", {"dry_run": True, "run_id": found.id, "environment": config.name}, what)
            return 0
        confirm(shell, config, f"end run {found.id}, and open everything", message=way.message, typed=way.typed)
        give_back(tools, found)
        shell.output.result("recover", {"run_id": found.id, "environment": config.name, "verified": None}, what)
        shell.output.next(f"backout status -e {config.name}")
        return 0
    plan = prepare_undo(tools, found)
    plan = skip_verification(plan) if way.no_wait else plan
    words = ("recover", "--undo", *(["--no-wait"] if way.no_wait else []))
    return _run(session, tools, plan, words, way, lambda: end_run(tools, found))


def _accept(shell: Shell, way: Way) -> int:
    """Go on with an interrupted recovery, with what its last second check found.

    Raises:
        UsageError: there is none, or its second check has found nothing.
        Busy: another run is unfinished.
    """
    from backout.cli.support.confirm import confirm
    from backout.cli.support.session import open_session
    from backout.runbook.recover.accepted import accept, find_shown

    config = shell.config()
    session = open_session(shell, config, "recover")
    run = session.in_the_way()
    if run is None:
        raise UsageError("there is no interrupted recovery to go on with", where=config.name)
    _refuse_other(run, None)
    found = find_shown(session.tools, run.id)
    if way.dry_run:
        shell.output.result("recover", {"dry_run": True, "run_id": run.id, "environment": config.name}, found.text)
        return 0
    action = f"go on with run {run.id} although {found.text}"
    accept(session.tools, run.id, found, confirm(shell, config, action, message=way.message, typed=way.typed))
    return _go_on(session, run, None)


def resume(shell: Shell, run: Run) -> int:
    """Continue an interrupted recovery (`backout runs resume`)."""
    from backout.cli.support.session import open_session

    shell.take(environment=run.environment)
    session = open_session(shell, shell.config(), "recover")
    return _finish(session, _drive(session, _open_tools(session, ()), run.id))


def _find_undone(run: Run) -> str:
    """Return the run that an unfinished one takes back, "" where it is none."""
    from backout.model.steps.recovery import RecoverReportStep

    return run.plan.arguments(RecoverReportStep).undoes if run.plan.has(RecoverReportStep) else ""


def _find_left_with_jobs(session: Session, target: str | None) -> Run | None:
    """Return the recovery to that moment of which only job workers are left, and which is not made twice; else None."""
    from backout.model.steps.recovery import RecoverReportStep
    from backout.runbook.safety.aside import is_left_with_jobs

    run = session.find_unfinished()
    if run is None or not run.plan.has(RecoverReportStep) or not is_left_with_jobs(run):
        return None
    return run if target in (None, run.plan.arguments(RecoverReportStep).target) else None


def _open_tools(session: Session, parts: Collection[str]) -> RecoverTools:
    from backout.cli.objects.meter import Meter
    from backout.wiring.recover import make_recover_tools

    return make_recover_tools(session.shell.config(), session.tools, parts, session.stop, Meter(session.live).show)


def _go_on(session: Session, run: Run, target: str | None) -> int:
    """Go on with an interrupted recovery. Raises as `_refuse_other`."""
    _refuse_other(run, target)
    session.shell.output.say(
        f"picking up run {run.id} ({shorten(run.plan.why)}), which was interrupted; its plan stands"
    )
    return _finish(session, _drive(session, _open_tools(session, ()), run.id))


def _refuse_other(run: Run, target: str | None) -> None:
    """Raise Busy: it is no interrupted recovery, or another moment was typed."""
    from backout.cli.support.session import make_busy_error
    from backout.model.steps.recovery import RecoverReportStep

    is_ours = run.state is RunState.INTERRUPTED and run.plan.has(RecoverReportStep)
    if not is_ours or (target is not None and run.plan.arguments(RecoverReportStep).target != target):
        raise make_busy_error(run)


def _run(
    session: Session,
    tools: RecoverTools,
    plan: Plan,
    words: Sequence[str],
    way: Way,
    before: Callable[[], None] = lambda: None,
) -> int:
    """Show a plan; confirm and drive it. `before`: is called when it was confirmed."""
    from backout.cli.support.also_back import agree, format_command, list_agreement_lines, make_agreement_record
    from backout.cli.support.confirm import confirm
    from backout.cli.support.outcome import show_dry_run
    from backout.cli.support.paint import paint_for
    from backout.plan.recovery import set_reason
    from backout.report.plans import format_plan
    from backout.report.recovery import make_plan_record

    shell, out = session.shell, session.shell.output
    config = shell.config()
    typed = format_command(shell, config.name, *words, message=way.message, typed=way.typed)
    if way.dry_run:
        facts = {**make_plan_record(plan), **make_agreement_record(plan, typed, way.also_back)}
        lines = "\n".join(
            [
                format_plan(plan, width=out.talk.width, paint=paint_for(out.talk)),
                *list_agreement_lines(plan, typed, way.also_back),
            ]
        )
        return show_dry_run(shell, "recover", plan, facts, lines)
    out.say(format_plan(plan, width=out.talk.width, paint=paint_for(out.talk)) + "\n")
    other = f"some of the parts: `backout recover --only PARTS -e {config.name}`"
    if "--undo" in words:
        other = f"leave it as it is, and look first: `backout status -e {config.name}`"
    plan = agree(shell, plan, way.also_back, typed, other)
    reason = confirm(shell, config, f"recover: {plan.why}", message=way.message, typed=way.typed)
    plan = set_reason(plan, way.message or "")
    before()
    return _finish(session, _drive(session, tools, session.take_over(plan, reason)))


def _drive(session: Session, tools: RecoverTools, run: str) -> Run:
    """Drive a run; what is closed when it stops is said."""
    from backout.runbook.recover.accepted import read_shown
    from backout.runbook.recover.actions import RecoverActions
    from backout.runbook.recover.deadline import keep_deadline, read_outage
    from backout.runbook.safety.clock import measure_clock

    found, environment = session.tools.runs.find(run), session.tools.environment
    if found is not None:
        session.live.follow(found.plan)
    measure_clock(session.tools)
    break_glass_as_typed(session.shell, session.tools.runs, run, actor=session.tools.actor)
    session.stop.install()
    try:
        with session.telling(run), keep_deadline(tools, run):
            actions = RecoverActions(tools)
            return session.tools.journal.drive(run, actions, actor=session.tools.actor, notify=session.live.event)
    except BackoutError:
        outage = read_outage(session.tools, shows_page=False)
        if outage is not None and outage.run == run:
            fence = {True: "the fence stands", False: "no fence stands", None: "whether a fence stands is not known"}
            opens = f"; `backout unfence -e {environment}` opens the database as it is" if outage.fence else ""
            if read_shown(session.tools, run).text:
                opens += f"; `backout recover --accept -m WHY -e {environment}` goes on as it is, if you have looked"
            session.shell.output.warn(
                f"{environment} is closed since {format_time(outage.since)}, and {fence[outage.fence]}. "
                f"`backout runs resume {run}` goes on; `backout recover --undo -e {environment}` takes it back{opens}"
            )
        raise
    finally:
        session.stop.restore()
        session.live.end()


def _finish(session: Session, run: Run) -> int:
    """Say what is there now, as read back, and what to type next."""
    from backout.cli.support.also_back import went_back_lines
    from backout.cli.support.outcome import find_exit_code
    from backout.report.recovery import format_lines, make_record
    from backout.runbook.recover.outcome import read_outcome

    if run.state is not RunState.DONE:
        raise PartlyDone(f"run {run.id} is {run.state}", hint=f"backout runs show {run.id}")
    tools, out = session.tools, session.shell.output
    found = read_outcome(tools, run)
    lines = [*format_lines(found), *went_back_lines(tools.runs, run), f"report: {found.report_path}"]
    out.result("recover", make_record(found), "\n".join(lines))
    out.next(f"backout status -e {run.environment}", found.undo)
    code = find_exit_code(tools, run)
    return _NOT_SHOWN if code == 0 and found.accepted else code
