"""`backout rollback`: plan first, confirm, drive, and end with what the provider says is live."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from backout.cli.support import outcome
from backout.cli.support.also_back import (
    ALSO_BACK,
    agree,
    format_command,
    list_agreement_lines,
    make_agreement_record,
    make_second_check,
    went_back_lines,
)
from backout.cli.support.confirm import ask, confirm
from backout.cli.support.glass import BREAK_GLASS
from backout.cli.support.options import REASON, command, pass_shell
from backout.errors import Busy, Refused, UsageError
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind
from backout.report.times import format_clock, format_time

if TYPE_CHECKING:
    from backout.cli.support.session import Session
    from backout.cli.support.shell import Shell
    from backout.model.incident.incident import Run
    from backout.model.plan import PlanRefused
    from backout.plan.rollback import Request
    from backout.runbook.rollback.already import There


_GOES_BACK = "the database goes back to "
FEW = 3
"""At most this many versions that were passed over are named; the others are counted."""


@command(
    "rollback",
    short_help="Go back to the last stable version, or to TARGET.",
    epilog="""
Examples:
  backout rollback -e staging                         # to the last stable version
  backout rollback -e production -m "500s on /api" --confirm production
  backout rollback "2 hours ago" -e staging --dry-run  # the plan, nothing else
  backout rollback 3f2a91 -e staging --no-wait        # end after the read-back
  backout rollback -e production -m WHY --for 15m     # and watch for 15 minutes
""",
)
@click.argument("target", required=False)
@click.option(
    "-m", "--message", type=REASON, metavar="WHY", help="The reason; goes into the deployment's message and the report."
)
@BREAK_GLASS
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--no-wait", is_flag=True, help="End after reading back what is live; no verification, no report.")
@click.option(
    "--for", "for_", metavar="DURATION", help="Watch for this long afterwards; the report says what was seen."
)
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@click.option("--with-database", is_flag=True, help="Also take the database back, to before the migration in the way.")
@ALSO_BACK
@click.option("--accept-unproven", is_flag=True, help="Accept a version that no watch, or no answer now, has proven.")
@click.option("--restore-secrets", is_flag=True, help="Accept that the target's own, older secret values come back.")
@click.option("--carry-secrets", is_flag=True, help="Upload the target's code again, with the secrets as they are now.")
@click.option(
    "--force",
    type=(click.Choice(["schema"]), str),
    metavar="schema MIGRATION",
    help="You know that the old code works with this migration head (`unknown` if it cannot be read).",
)
@pass_shell
def rollback(
    shell: Shell,
    *,
    target: str | None,
    message: str | None,
    dry_run: bool,
    no_wait: bool,
    for_: str | None,
    typed: str | None,
    with_database: bool,
    also_back: tuple[str, ...],
    accept_unproven: bool,
    restore_secrets: bool,
    carry_secrets: bool,
    force: tuple[str, str] | None,
) -> int:
    """Go back to the last stable version, or to TARGET.

    TARGET may be a version id, a deployment id, a number, a tag, a git sha (or a prefix of one), or a time. If the same
    command is typed again after it went back there, it says so and ends as the first one did; without TARGET this holds
    for an hour. To go one version further back, name it.
    """
    from backout.cli.support.session import open_session
    from backout.model.steps.rollback import ActivateStep
    from backout.plan.rollback import Request

    if restore_secrets and carry_secrets:
        raise UsageError("--restore-secrets and --carry-secrets contradict each other", hint="choose one of them")
    for_s = _read_for(for_, no_wait=no_wait)
    config = shell.config()
    session = open_session(shell, config, "rollback")
    unfinished = None if dry_run else session.in_the_way()
    if unfinished is None and not dry_run and not with_database:
        unfinished = _find_left_with_jobs(session, target)
    if unfinished is not None:
        _check_same(session, unfinished, target, with_database=with_database)
        version = unfinished.plan.arguments(ActivateStep).version
        shell.output.say(
            f"picking up run {unfinished.id} (to version {version[:8]}), which was interrupted; its plan stands"
        )
        return finish(session, session.drive(unfinished.id))
    request = Request(
        message=shell.mask_reason(message or ""),
        target=target,
        wait=not no_wait,
        for_s=for_s,
        accept_unproven=accept_unproven,
        force_secrets=restore_secrets,
        carry_secrets=carry_secrets,
        force_schema=force[1] if force else "",
    )
    plan = _make_plan(session, request, target, with_database=with_database)
    if not isinstance(plan, Plan):
        return _say_already_live(session, plan, dry_run=dry_run)
    more = ["--accept-unproven"] * accept_unproven + ["--restore-secrets"] * restore_secrets
    more += ["--carry-secrets"] * carry_secrets + ["--no-wait"] * no_wait
    more += ["--for", for_] if for_ else []
    words = ("rollback", *([target] if target else ()), "--with-database", *more)
    command = format_command(shell, config.name, *words, message=message, typed=typed)
    if dry_run:
        return _show(shell, plan, command, also_back)
    shell.output.say(_format_text(shell, plan))
    shell.output.say("")
    if with_database:
        plan = agree(shell, plan, also_back, command, _offer_one_alone(session, plan))
    version = plan.arguments(ActivateStep).version
    what = f"roll back to version {version[:8]}" + (", and the database with it" if with_database else "")
    if session.tools.safety.doubt:
        shell.output.warn(session.tools.safety.doubt)
        ask(shell, "Go on all the same?", flag="--yes")
    reason = confirm(shell, config, what, message=message, typed=typed)
    if not message and config.protected:  # elsewhere no reason is asked for: what runs is what --dry-run shows
        from backout.plan.rollback import set_reason

        plan = set_reason(plan, reason, session.tools.rollback.equivalents)
    return finish(session, session.drive(session.take_over(plan, reason)))


def _read_for(for_: str | None, *, no_wait: bool) -> float:
    """Return how long to watch afterwards at least, in seconds. Raises UsageError."""
    from backout.config.scalars import parse_seconds

    if for_ is None:
        return 0.0
    if no_wait:
        raise UsageError("--for watches, and --no-wait does not", hint="choose one of them")
    return parse_seconds(for_, "--for")


def _say_already_live(session: Session, there: There, *, dry_run: bool) -> int:
    """Say that the target is already live at 100 %, and by which run: there is nothing to do."""
    out, tools, run = session.shell.output, session.tools, there.run
    if run is not None:
        record = outcome.make_rollback_record(tools, run)
    else:
        record = {"run_id": None, "environment": tools.environment, "from_version": None, "to_version": there.version}
        record |= {"state": None, "verified": None, "criteria": [], "seen": None, "proof": None, "report_path": None}
    since, read_at = there.live.created_at, there.read_at
    record |= {"live_version": there.live.main, "deployment_id": there.live.id, "live_since": format_time(since)}
    record |= {"read_back_at": format_time(read_at), "already": True, "dry_run": dry_run}
    record |= {} if there.further is None else {"further": there.further or None}
    by = f", by run {run.id}" if run is not None else ""
    said = (
        f"nothing to do: version {there.live.main} is live at 100 % since {format_clock(since)}{by} (read "
        f"{format_clock(read_at)})"
    )
    if there.further is not None:
        said += "; that was the rollback" + ("" if there.further else ", and the rules allow none further back")
    out.result("rollback", record, said)
    further = f"backout rollback {there.further} -e {tools.environment} -m WHY  # one further back"
    why_not = f"backout deployments list -e {tools.environment}  # each version, and what counts against it"
    out.next(
        f"backout status -e {tools.environment}",
        *(() if there.further is None else (further if there.further else why_not,)),
        *(outcome.undo_commands(run) if run is not None else ()),
    )
    return outcome.find_exit_code(tools, run) if run is not None else 0


def _find_left_with_jobs(session: Session, target: str | None) -> Run | None:
    """Return the rollback that went back there already, where only the job workers have not followed; None: none."""
    from backout.model.steps.rollback import ActivateStep
    from backout.runbook.observe import observe
    from backout.runbook.rollback.already import is_meant_again
    from backout.runbook.safety.clock import find_target_version

    tools, keeper = session.tools, session.find_unfinished()
    if keeper is None or not is_meant_again(tools, keeper):
        return None
    version = keeper.plan.arguments(ActivateStep).version
    is_same = target is None or find_target_version(tools, target, observe(tools)) == version
    return keeper if is_same else None


def _check_same(session: Session, run: Run, target: str | None, *, with_database: bool) -> None:
    """Return when the run that keeps the environment is the one typed again, and no process drives it.

    Without TARGET it is whatever rollback was interrupted; with it, the one to that version. Raises Busy, UsageError.
    """
    from backout.cli.support.session import make_busy_error
    from backout.model.steps.rollback import ActivateStep

    if run.state is not RunState.INTERRUPTED or run.plan.kind is not PlanKind.ROLLBACK:
        raise make_busy_error(run)
    way = f"finish it: `backout runs resume {run.id}`, or give it up: `backout runs abort {run.id} -m WHY`"
    has_database = any(step.action.startswith("db_") for step in run.plan.steps)
    if has_database is not with_database:
        what = "takes the database back, too" if has_database else "leaves the database alone"
        raise Busy(f"run {run.id} was interrupted, and it {what}", where=run.environment, hint=way)
    if target is None:
        return
    from backout.runbook.observe import observe
    from backout.runbook.safety.clock import find_target_version

    typed = find_target_version(session.tools, target, observe(session.tools))
    planned = run.plan.arguments(ActivateStep).version
    if typed != planned:
        what = f"run {run.id}, a rollback to version {planned}, was interrupted; '{target}' is version {typed}"
        raise Busy(what, where=run.environment, hint=way)


def _make_plan(session: Session, request: Request, target: str | None, *, with_database: bool) -> Plan | There:
    """Return the plan, or what is live if that rollback was done already. Raises Refused."""
    from backout.model.steps.rollback import ActivateStep
    from backout.runbook.rollback.rollback import prepare

    if with_database:
        from backout.runbook.rollback.with_database import prepare_together

        situation, planned = prepare_together(session.tools, request)
    else:
        situation, planned = prepare(session.tools, request)
    from backout.runbook.rollback.already import find_already_there, went_back

    if target is None and not with_database:
        further = planned.arguments(ActivateStep).version if isinstance(planned, Plan) else ""
        there = went_back(session.tools, situation, further)
        if there is not None:
            return there
    if isinstance(planned, Plan):
        return planned
    from backout.runbook.rollback.remediation_options import add_ways

    there = None if target is None or with_database else find_already_there(session.tools, situation, target)
    if there is not None:
        return there
    raise make_refusal(add_ways(session.tools, planned, situation), session.tools.environment)


def make_refusal(refused: PlanRefused, environment: str) -> Refused:
    """Return the error that says why there is no plan, what was considered, and what is allowed."""
    others = [each for each in refused.rejections if each.reason not in refused.reason]
    looked_at = tuple(f"not {each.version}: {each.reason}" for each in others)
    if len(others) > FEW:
        rules = Counter(each.rule.partition(" ")[2] or "other reasons" for each in others)
        counted = ", ".join(f"{count} {rule}" for rule, count in rules.items())
        looked_at = (
            f"not these {len(others)} either ({counted}): `backout deployments list -e {environment}` has each",
        )
    return Refused(refused.reason, where=environment, rule=refused.rule, options=(*looked_at, *refused.options))


def _format_text(shell: Shell, plan: Plan) -> str:
    from backout.cli.support.paint import paint_for
    from backout.report.plans import format_plan

    return format_plan(plan, width=shell.output.talk.width, paint=paint_for(shell.output.talk))


def _show(shell: Shell, plan: Plan, command: str, also_back: tuple[str, ...]) -> int:
    from backout.model.steps.rollback import ActivateStep

    switch = plan.arguments(ActivateStep)
    facts = {
        "from_version": switch.leaving,
        "to_version": switch.version,
        **make_agreement_record(plan, command, also_back),
    }
    text = "\n".join([_format_text(shell, plan), *list_agreement_lines(plan, command, also_back)])
    return outcome.show_dry_run(shell, "rollback", plan, facts, text)


def _offer_one_alone(session: Session, plan: Plan) -> str:
    """Return how the database is looked at, or its damaged rows are brought back, without what else goes back."""
    from backout.runbook.recovery.whole_cluster import explain_one_alone

    assert session.tools.recovery.restoring is not None
    before = next((note for note in plan.notes if note.startswith(_GOES_BACK)), "").removeprefix(_GOES_BACK)
    return explain_one_alone(session.tools.recovery.restoring(), before)


def finish(session: Session, run: Run) -> int:
    """Say what is live, as read back, and what to type next."""
    from backout.model.steps.verification import VerifyStep

    shell, tools = session.shell, session.tools
    went_back = any(step.action.startswith("db_") for step in run.plan.steps)
    checks = make_second_check(tools.runs, run) if went_back else None
    record = outcome.make_rollback_record(tools, run) | (checks.record() if checks is not None else {})
    shell.output.result("rollback", record, format_end(shell, session, run, record))
    code = outcome.find_exit_code(tools, run)
    follow = f"backout status -e {run.environment}"
    if checks is not None:
        code = min(filter(None, (code, *checks.codes)), default=0)
        for line in (*went_back_lines(tools.runs, run), *checks.lines):
            shell.output.say(line)
        shell.output.warn("the database is UNPROTECTED until the next verified base backup")
        follow = f"backout db backup --full -e {run.environment}"
        undo = f"backout db restore --undo -e {run.environment} -m WHY  # undo: the database first, then the code"
        shell.output.next(follow, undo, *outcome.undo_commands(run))
    else:
        shell.output.next(follow, *outcome.list_revert_commands(run), *outcome.undo_commands(run))
    if run.plan.has(VerifyStep):  # --no-wait does not wait for a card either
        session.renew_card()
    return code


def format_end(shell: Shell, session: Session, run: Run, record: dict[str, object]) -> str:
    """Return the last words for a person: the criteria, what is live, where the report is."""
    lines = []
    proof = outcome.find_verification(session.tools, run.id)
    if proof is not None:
        from backout.cli.support.paint import paint_for
        from backout.report.plans import format_verification

        style = shell.output.style
        lines.append(format_verification(proof, width=style.width, paint=paint_for(style)))
        if proof.seen is not None:
            from backout.report.guard.monitoring import list_seen
            from backout.report.text import wrap_text

            lines += [line for each in list_seen(proof.seen) for line in wrap_text(each, style.width)]
    lines.append(outcome.describe_live(session.tools, run))
    if record["report_path"]:
        lines.append(f"Report: {record['report_path']}")
    return "\n".join(lines)
