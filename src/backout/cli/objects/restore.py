"""`backout objects restore`: the objects of the bucket, or those below a prefix, back to a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.glass import BREAK_GLASS, break_glass_as_typed
from backout.cli.support.options import REASON, Command, pass_shell
from backout.cli.support.waiting import telling_who_approves
from backout.errors import PartlyDone, Unmeasured, UsageError
from backout.escaping import shorten
from backout.model.incident.incident import RunState

if TYPE_CHECKING:
    from backout.cli.guard.live import Live
    from backout.cli.support.shell import Shell
    from backout.journal.stop import StopRequest
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.runbook.objects.tools import ObjectTools


@click.command(
    "restore",
    cls=Command,
    short_help="Bring the objects back to a moment.",
    epilog="""
Examples:
  backout objects restore --to "2026-11-25 14:03:00" -e production --dry-run
  backout objects restore --to 14:03 --until 14:20 -e production -m "a bad import"
  backout objects restore --to "20 minutes ago" --prefix models/ -e production
  backout objects restore -e production            # goes on with an interrupted one
  backout objects restore --to 14:03 --spread -e production   # with the workers of other machines
  backout objects restore --undo -e production
""",
)
@click.option("--to", metavar="TIME", help="The moment before the damage, by the store's clock.")
@click.option("--until", metavar="TIME", help="The end of the damage: what was written later stays (now).")
@click.option("--prefix", metavar="PREFIX", help="Only the objects below it; default: storage.prefix.")
@click.option(
    "--undo",
    is_flag=True,
    help="Take the newest restore back, but for what was written since: also one that was interrupted.",
)
@click.option(
    "--spread", is_flag=True, help="Leave ranges of a thousand objects to the workers of other machines as well."
)
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; recorded in the journal.")
@BREAK_GLASS
@click.option("-n", "--dry-run", is_flag=True, help="List the bucket, count what would be done, and change nothing.")
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@pass_shell
def restore(
    shell: Shell,
    *,
    to: str | None,
    until: str | None,
    prefix: str | None,
    undo: bool,
    spread: bool,
    message: str | None,
    dry_run: bool,
    typed: str | None,
) -> int:
    """Bring every object back to what it was at a moment: from the versions that the bucket keeps, inside the store.

    What was deleted since loses its delete marker, what was changed is copied from its older version, what was created
    gets a delete marker. No version is destroyed. What is written while it runs stays the newest. Without --to an
    interrupted restore goes on where it stopped.
    """
    from backout.cli.objects.words import describe_survey
    from backout.cli.support.confirm import confirm, needs_answer
    from backout.runbook.objects.restore import foresee, prepare

    config = shell.config()
    stop = _make_stop(shell)
    tools, live = open_object_tools(shell, stop, is_spread=spread)
    if spread:
        from backout.wiring.tasks import prepare_tables

        prepare_tables(config)
    unfinished = _find_unfinished(tools) if undo or not dry_run else None
    if undo:
        if to or until or prefix:
            raise UsageError("--undo takes back what the newest restore did: it has no moment and no prefix")
        return _undo(shell, (tools, live, stop), unfinished, message=message, dry_run=dry_run, typed=typed)
    if unfinished is not None:
        if unfinished.state is not RunState.INTERRUPTED or to is not None:
            from backout.cli.support.session import make_busy_error

            raise make_busy_error(unfinished)
        return _go_on(shell, (tools, live, stop), unfinished)
    if to is None:
        raise UsageError("no --to, and no interrupted restore to go on with", hint="backout objects restore --help")
    storage = config.environment.storage
    assert storage is not None
    plan = prepare(tools, to, until, storage.prefix if prefix is None else prefix)
    if dry_run or needs_answer(shell, config, message=message, typed=typed):  # else the run itself counts first
        survey = foresee(tools, plan)
        live.end()
        if dry_run:
            return _show(shell, tools, plan, survey.to_json())
        shell.output.say("\n".join(describe_survey(survey, would=True)))
        if not survey.changes:
            shell.output.result("objects", _make_record(tools, plan, survey.to_json()) | {"verified": True}, "")
            return 0
    reason = confirm(shell, config, f"restore the {plan.why}", message=message, typed=typed)
    run = tools.journal.submit(plan, actor=tools.actor, reason=reason)
    return _finish(shell, tools, _drive(shell, tools, live, stop, run))


def _go_on(shell: Shell, session: tuple[ObjectTools, Live, StopRequest], run: Run) -> int:
    shell.output.say(f"going on with run {run.id} ({shorten(run.plan.why)}), which was interrupted")
    return _finish(shell, session[0], _drive(shell, *session, run.id))


def _undo(
    shell: Shell,
    session: tuple[ObjectTools, Live, StopRequest],
    unfinished: Run | None,
    *,
    message: str | None,
    dry_run: bool,
    typed: str | None,
) -> int:
    """Take the newest restore back, also one that was interrupted; an undo that was goes on.

    Raises:
        Busy: another process drives it.
    """
    from backout.cli.support.confirm import confirm
    from backout.cli.support.outcome import show_dry_run
    from backout.model.steps.objects import UndoObjectsStep
    from backout.runbook.objects.undo import has_begun, prepare_undo

    tools, live, stop = session
    if unfinished is not None and unfinished.state is not RunState.INTERRUPTED:
        from backout.cli.support.session import make_busy_error

        raise make_busy_error(unfinished)
    if unfinished is not None and unfinished.plan.has(UndoObjectsStep):
        if dry_run:
            return show_dry_run(shell, "objects", unfinished.plan, {"bucket": tools.bucket})
        return _go_on(shell, session, unfinished)
    if unfinished is not None and not has_begun(tools, unfinished):
        what = f"run {unfinished.id} has changed no object: it {'would be' if dry_run else 'is'} ended"
        if not dry_run:
            why = confirm(shell, shell.config(), f"end run {unfinished.id}", message=message, typed=typed)
            tools.runs.ask(unfinished.id, "abort", actor=tools.actor, reason=why)
        payload = {"environment": tools.environment, "run_id": unfinished.id, "dry_run": dry_run, "verified": None}
        shell.output.result("objects", payload, what)
        return 0
    plan = prepare_undo(tools, None)
    if dry_run:
        return show_dry_run(shell, "objects", plan, {"bucket": tools.bucket})
    reason = confirm(shell, shell.config(), f"bring the {plan.why}", message=message, typed=typed)
    if unfinished is not None:
        tools.runs.ask(unfinished.id, "abort", actor=tools.actor, reason="taken back")
    run = tools.journal.submit(plan, actor=tools.actor, reason=reason)
    return _finish(shell, tools, _drive(shell, tools, live, stop, run))


def resume(shell: Shell, run: Run) -> int:
    """Continue an interrupted restore of objects (`backout runs resume`)."""
    from backout.plan.objects import get_environment

    shell.take(environment=get_environment(run.environment))
    stop = _make_stop(shell)
    tools, live = open_object_tools(shell, stop)
    return _finish(shell, tools, _drive(shell, tools, live, stop, run.id))


def _make_stop(shell: Shell) -> StopRequest:
    from backout.journal.stop import StopRequest as Stop

    return Stop(lambda: shell.output.say("stopping after the current step; Ctrl-C again stops now"))


def open_object_tools(
    shell: Shell, stop: StopRequest | None = None, *, is_spread: bool = False
) -> tuple[ObjectTools, Live]:
    """Return the ports, and what shows the steps."""
    from backout.cli.guard.live import Live
    from backout.cli.objects.meter import Meter
    from backout.wiring.objects import make_object_tools

    live = Live(shell.output, "objects")
    tools = make_object_tools(shell.config(), stop, Meter(live).show, is_spread=is_spread, say=shell.output.say)
    return tools, live


def _drive(shell: Shell, tools: ObjectTools, live: Live, stop: StopRequest, run: str) -> Run:
    from backout.runbook.objects.restore import ObjectActions

    found = tools.runs.find(run)
    if found is not None:
        live.follow(found.plan)
    break_glass_as_typed(shell, tools.runs, run, actor=tools.actor)
    stop.install()
    try:
        with telling_who_approves(shell, tools.runs, run):
            return tools.journal.drive(run, ObjectActions(tools), actor=tools.actor, notify=live.event)
    finally:
        stop.restore()
        live.end()


def _finish(shell: Shell, tools: ObjectTools, run: Run) -> int:
    """Say what was done, as read back from the bucket.

    Raises:
        PartlyDone: the run is not done.
    """
    from backout.cli.objects.words import describe_end
    from backout.model.steps.base import to_json
    from backout.model.steps.objects import CompareObjectsStep, RestoreObjectsStep, SurveyObjectsStep, UndoObjectsStep
    from backout.ports import find_result

    if run.state is not RunState.DONE:
        raise PartlyDone(f"run {run.id} is {run.state}", hint=f"backout runs show {run.id}")
    is_undo = run.plan.has(UndoObjectsStep)
    surveyed = find_result(tools.runs, run.id, UndoObjectsStep if is_undo else SurveyObjectsStep)
    restored = find_result(tools.runs, run.id, RestoreObjectsStep)
    compared = find_result(tools.runs, run.id, CompareObjectsStep)
    assert surveyed is not None and restored is not None and compared is not None  # noqa: PT018 - the run is done
    survey, second = surveyed.survey, compared.compared
    payload = _make_record(tools, run.plan, survey.to_json()) | {
        "run_id": run.id,
        "undeleted": restored.undeleted,
        "changed": restored.changed,
        "removed": restored.removed,
        "same": restored.same,
        "kept_newer": survey.kept_newer + len(second.put_back),
        "failed": to_json(restored.failed),
        "failures": restored.failures,
        "compared": second.to_json(),
        "verified": second.verified,
    }
    shell.output.result("objects", payload, "\n".join(describe_end(survey, restored, second)))
    if not is_undo and survey.changes:
        shell.output.next(f"backout objects restore --undo -e {tools.environment}  # takes it back")
    if second.verified is False or survey.archived:
        return 1
    return 0 if second.verified else Unmeasured.exit_code


def _make_record(tools: ObjectTools, plan: Plan, survey: object) -> dict[str, object]:
    from backout.plan.objects import get_order
    from backout.report.times import format_time

    step = get_order(plan)
    assert isinstance(survey, dict)
    counts = {name: survey[name] for name in ("objects", "undeleted", "changed", "removed", "same", "kept_newer")}
    lists = {name: survey[name] for name in ("ambiguous", "archived")}
    return {
        "environment": tools.environment,
        "bucket": step.bucket,
        "prefix": step.prefix,
        "to": format_time(step.moment.to),
        "until": format_time(step.until),
        **counts,
        "bytes": survey["size_bytes"],
        **lists,
        "failed": [],
        "verified": None,
    }


def _show(shell: Shell, tools: ObjectTools, plan: Plan, survey: object) -> int:
    from backout.cli.objects.words import describe_survey
    from backout.cli.support.outcome import show_dry_run
    from backout.cli.support.paint import paint_for
    from backout.decoding import decode_values
    from backout.model.objects.surveys import ObjectSurvey
    from backout.report.plans import format_plan

    out = shell.output
    text = format_plan(plan, width=out.style.width, paint=paint_for(out.style))
    words = describe_survey(decode_values(survey, ObjectSurvey), would=True)
    return show_dry_run(shell, "objects", plan, _make_record(tools, plan, survey), "\n".join([text, "", *words]))


def _find_unfinished(tools: ObjectTools) -> Run | None:
    from backout.plan.objects import name_lane

    newest = next(tools.runs.walk_runs(name_lane(tools.environment)), None)
    return None if newest is None or newest.state.is_over else newest
