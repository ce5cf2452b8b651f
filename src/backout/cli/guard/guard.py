"""`backout guard`: watch a new deployment and act as the policy says; judge recorded traffic (`replay`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.analysis.history.remarks import find_underneath
from backout.cli.guard.accept import accept
from backout.cli.guard.ended import describe_verdict, list_next_commands, tell_push, tell_rollback
from backout.cli.guard.explain import explain
from backout.cli.guard.plan import plan
from backout.cli.guard.replay import replay
from backout.cli.guard.report import report
from backout.cli.support.options import group, pass_shell
from backout.errors import BackoutError, Interrupted, Refused, UsageError, WorldMoved
from backout.model.guard.policy import Mode
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.report.event_records import format_times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.cli.support.session import Session
    from backout.cli.support.shell import Shell
    from backout.model.guard.shift import Shift
    from backout.model.incident.incident import Run
    from backout.model.steps.guard import ConcludeResult

_CODES = {"stable": 0, "accept": 0, "hold": 7, "refused": 3, "void": 6}


@group(
    "guard",
    short_help="Watch a new deployment; roll back if it regressed.",
    invoke_without_command=True,
    epilog="""
Examples:
  backout guard -e production                  # as the policy's mode says (default: observe)
  backout guard -e production --mode act --next  # start it, then deploy
  backout guard -e production --observe --for 5m
  backout guard -e production --follow         # one deployment after the other
  backout guard -e production --version-id VERSION  # that one, or none
  backout guard plan -e production             # what would it find, how fast?
  backout guard explain guard-18ace2c0         # why did that watch end so?
  backout guard report -e production           # may it act alone?
  backout guard -e production --expect 'GET /old/*=410'
  backout guard accept SHIFT -e production -m WHY  # it is intended
  backout guard replay requests.jsonl          # judge recorded traffic
  backout guard replay --since 30d -e production
""",
)
@click.option("--mode", type=click.Choice([str(mode) for mode in Mode]), help="Overrides guard.mode of backout.toml.")
@click.option("--observe", is_flag=True, help="Only say what it would do (same as --mode observe).")
@click.option("--for", "for_", metavar="DURATION", help="Watch for this long (15m, 90s) instead of criteria.watch.")
@click.option("--early", is_flag=True, help="End as soon as the evidence says healthy; misses leaks.")
@click.option(
    "--next",
    "wait_for_next",
    is_flag=True,
    help="First wait for the next deployment (or one since a watch that was stopped).",
)
@click.option("--follow", is_flag=True, help="Watch each new deployment, and what is live in between.")
@click.option("--next-timeout", metavar="DURATION", default="30m", show_default=True, help="How long --next waits.")
@click.option("--version-id", metavar="VERSION", default="", help="Watch this version, and no other.")
@click.option("--expect", multiple=True, metavar="'METHOD /path=STATUS'", help="An intended change of an answer.")
@click.option("--summary", metavar="FILE", help="Append the result as Markdown, however it ends.")
@click.option("--outputs", metavar="FILE", help="Append the result as name=value lines, however it ends.")
@click.option(
    "--deployment-status", is_flag=True, help="Show the result on the workflow's deployment; see docs/github.md."
)
@click.pass_context
@pass_shell
def guard(
    shell: Shell,
    ctx: click.Context,
    *,
    mode: str | None,
    observe: bool,
    for_: str | None,
    early: bool,
    wait_for_next: bool,
    follow: bool,
    next_timeout: str,
    version_id: str,
    expect: tuple[str, ...],
    summary: str | None,
    outputs: str | None,
    deployment_status: bool,
) -> int | None:
    """Watch the live deployment, compare it with the previous version, and act as the policy says.

    A healthy watch marks the version stable. A regressed one is rolled back in mode `act`, asked about in mode `ask`,
    and only reported in mode `observe`. Exit codes: 0 healthy, 1 regressed, 7 inconclusive or not caused by the
    deployment, 3 a safety rule or a hold keeps guard from acting, 6 overtaken.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from backout.cli.guard.pipeline import Wanted, run_and_tell
    from backout.config.scalars import parse_seconds

    if for_ is not None and parse_seconds(for_, "--for") < 1:
        raise UsageError("a watch lasts a second at least", where="--for", hint="--for 15m")
    flags = {"guard.mode": str(Mode.OBSERVE) if observe else mode, "criteria.watch": for_}
    next_within = next_timeout if wait_for_next else None
    wanted = Wanted(summary, outputs, deployment_status)
    if follow:
        if wait_for_next or version_id or wanted != Wanted():
            raise UsageError("--follow never ends", hint="--follow without --next, --summary and the like")
        return _follow(shell, flags, expect, early=early)
    if version_id and wait_for_next:
        raise UsageError("--next waits for whatever comes next", hint="--version-id without --next")

    def watch() -> int:
        session = _open_session(shell, flags, expect)
        return run_watch(session, early=early, next_within=next_within, version=version_id)

    return run_and_tell(shell, wanted, watch)


PAUSE_S = 30.0
"""How long `guard --follow` waits after an error before it looks again."""


def _follow(shell: Shell, flags: Mapping[str, str | None], expect: tuple[str, ...], *, early: bool) -> int:
    """Watch one deployment after the other; an error ends a watch, only Ctrl-C ends this."""
    from backout.cli.support import errors
    from backout.runbook.guard.follow import wait_for_unwatched

    session = _open_session(shell, flags, expect)
    while True:
        session.live.say("waiting for a deployment that has not been watched; Ctrl-C ends this")
        try:
            wait_for_unwatched(session.tools, session.live.event)
            run_watch(session, early=early, next_within=None)
        except Interrupted:
            raise
        except BackoutError as error:
            errors.show(error, shell.output)
            session.tools.clock.sleep(PAUSE_S)
        shell.output.answered = False  # each watch has its own answer


def _open_session(shell: Shell, flags: Mapping[str, str | None], expect: tuple[str, ...]) -> Session:
    from backout.cli.support.session import open_session
    from backout.config.expected import parse_expectation

    config = shell.config(flags)
    health = config.environment.health
    meant = tuple(parse_expectation(text, str(health.url) if health else "") for text in expect)
    return open_session(shell, config, "guard", stream=True).expecting(meant)


def run_watch(session: Session, *, early: bool = False, next_within: str | None = None, version: str = "") -> int:
    """Watch as the configuration and the flags say: what comes next, `version`, or whatever came last.

    Returns:
        The exit code.

    Raises:
        Busy: something else keeps the environment.
        BackoutError: it could not begin, or did not end.
    """
    from backout.cli.support.session import make_busy_error
    from backout.config.scalars import parse_seconds
    from backout.runbook.guard import guard as procedure
    from backout.runbook.guard.next_deployment import end_outdated_plan
    from backout.runbook.guard.wanted_version import is_watch_of

    _check_channels(session.shell, session)
    unfinished = end_outdated_plan(session.tools, session.find_unfinished())
    if unfinished is not None and not procedure.may_go_on(unfinished):
        raise make_busy_error(unfinished)
    if next_within is not None:
        return _watch_next(session, unfinished, parse_seconds(next_within, "--next-timeout"), early=early)
    if unfinished is not None:
        run = _pick_up(session, unfinished)
        if not _is_void(session, run) and is_watch_of(session.tools, run, version):
            return finish(session, run)
    return finish(session, _watch_to_end(session, early=early, version=version))


def _pick_up(session: Session, unfinished: Run) -> Run:
    refuse_another_mode(unfinished, session.tools.policy.guard.mode)
    session.live.say(f"picking up run {unfinished.id}, which was interrupted")
    return session.drive(unfinished.id)


def _watch_next(session: Session, unfinished: Run | None, within_s: float, *, early: bool) -> int:
    """Wait for the next deployment and watch it; one made since an earlier watch was interrupted counts as the next.

    The earlier watch is no longer wanted, so it is ended, and its record says so. A rollback that it led to is finished
    first: what is live is bad until then.
    """
    from backout.cli.support.session import make_busy_error
    from backout.runbook.guard import next_deployment
    from backout.runbook.safety.aside import end_run, gives_way

    tools = session.tools
    after = next_deployment.find_newest_known(tools, unfinished)
    if unfinished is not None and not gives_way(unfinished):
        finish(session, _pick_up(session, unfinished))
        session.shell.output.answered = False  # the answer is that of the watch to come
    elif unfinished is not None:
        session.live.say(f"{unfinished.id} was interrupted; the next deployment is wanted, so it is ended")
        reason = "guard --next: another deployment is to be watched"
        left = end_run(tools.runs, tools.clock, unfinished, actor=tools.actor, reason=reason)
        if left is not None:
            raise make_busy_error(left)
    session.live.say(f"waiting for the next deployment of {tools.environment}")
    came_before = next_deployment.wait_for_next(tools, within_s, after=after)
    run = _watch_to_end(session, early=early)
    if came_before and _is_void(session, run):  # the awaited deployment came
        run = _watch_to_end(session, early=early)
    return finish(session, run)


def _watch_to_end(session: Session, *, early: bool, version: str = "") -> Run:
    from backout.runbook.guard import guard as procedure

    policy = session.tools.policy
    mode, for_s = policy.guard.mode, policy.criteria.watch_s
    with session.telling():
        plan = procedure.plan(session.tools, mode=mode, for_s=for_s, early=early, version=version)
    session.renew_card(meanwhile=True)
    session.live.say(f"{plan.steps[0].title}, then {plan.steps[-1].title} (mode {policy.guard.mode})")
    return session.drive(session.submit(plan, plan.why))


def _check_channels(shell: Shell, session: Session) -> None:
    """Warn before the watch that no notice of its end can be sent, and deliver what earlier commands left."""
    if session.tools.notifier is not None:
        shell.complain_of(session.tools.notifier.flush(0.0))
    elif session.tools.policy.guard.mode is Mode.ACT:
        shell.output.warn("no one will be told what guard does: [notify] has no channel (docs/notifications.md)")


def refuse_another_mode(unfinished: Run, mode: Mode) -> None:
    """Raise Refused for a run that may do more (or less) than the command typed now allows."""
    from backout.model.steps.guard import ConcludeStep

    watches = unfinished.plan.has(ConcludeStep)
    recorded = unfinished.plan.arguments(ConcludeStep).mode if watches else Mode.ACT
    if recorded is not mode and not (not watches and mode is Mode.ASK):
        raise Refused(
            f"run {unfinished.id} was interrupted in mode {recorded}, and mode {mode} is wanted now",
            where=unfinished.environment,
            options=(
                f"continue it as it is: `backout runs resume {unfinished.id}`",
                f"give it up first: `backout runs abort {unfinished.id} -m WHY`",
            ),
        )


def _read_conclusion(session: Session, run: Run) -> ConcludeResult | None:
    from backout.model.steps.guard import ConcludeStep
    from backout.ports import find_result

    return find_result(session.tools.runs, run.id, ConcludeStep)


def _is_void(session: Session, run: Run) -> bool:
    """Whether nothing was judged: another deployment came, or the version is gone."""
    concluded = _read_conclusion(session, run)
    return concluded is not None and concluded.action == "void"


def _began(session: Session, run: Run) -> Run:
    """Return the watch that a run came from, through any number of rollbacks."""
    from backout.runbook.incident.report import find_watch

    return find_watch(session.tools.runs, run.id) or run


def finish(session: Session, run: Run) -> int:
    """Say the verdict, what was done, what is live as read back, and what to type next; then renew the card."""
    try:
        return _make_answer(session, run)
    finally:
        session.renew_card()


def _make_answer(session: Session, run: Run) -> int:
    import msgspec

    from backout.model.steps.guard import ConcludeStep, WatchStep
    from backout.ports import find_result

    began = _began(session, run).id
    watched = find_result(session.tools.runs, began, WatchStep)
    decision = None if watched is None else watched.decision
    reason = "" if decision is None else decision.reason
    verdict = "unmeasured" if watched is None else str(watched.verdict)
    shifts = [] if decision is None else [_make_shift_record(shift) for shift in decision.shifts]
    record: dict[str, object] = {
        "type": "result",
        "environment": run.environment,
        "run_id": run.id,
        "guard_run_id": began,
        "verdict": verdict,
        "reason": reason,
        "decision": format_times(msgspec.to_builtins(decision)),
        "shifts": shifts,
    }
    if run.plan.kind is PlanKind.ROLLBACK:
        return tell_rollback(session, run, record, verdict)
    if run.plan.kind is PlanKind.SECRETS:
        return tell_push(session, run, record, verdict)
    concluded = _read_conclusion(session, run)
    action = "none" if concluded is None else str(concluded.action)
    live = find_underneath(session.tools.deployments.history())
    record |= {
        "action": action,
        **_make_consequence_record(concluded),
        "mode": run.plan.arguments(ConcludeStep).mode,
        "live_version": live.main,
        "deployment_id": live.id,
        "verified": None,
    }
    if run.state is RunState.ABORTED:
        raise WorldMoved(
            _explain_abort(session, run), where=run.environment, hint=f"backout status -e {run.environment}"
        )
    if concluded is not None:
        _refuse(session, concluded, record)
    session.shell.output.result("guard", record, describe_verdict(verdict, reason, concluded, shifts))
    session.shell.output.next(f"backout status -e {run.environment}", *list_next_commands(run, verdict, action))
    return _get_exit_code(verdict, action, concluded.rule if concluded is not None else "")


def _make_consequence_record(concluded: ConcludeResult | None) -> dict[str, object]:
    """Return what a verdict led to, null for what it did not."""
    import msgspec

    if concluded is None:
        return dict.fromkeys(("why", "would", "policy", "rule", "report_path", "provider_mark", "measured"))
    return {
        "why": concluded.why,
        "would": concluded.would or None,
        "policy": concluded.policy or None,
        "rule": concluded.rule or None,
        "report_path": concluded.report or None,
        "provider_mark": None if concluded.provider_mark is None else msgspec.to_builtins(concluded.provider_mark),
        "measured": concluded.measured,
    }


def _explain_abort(session: Session, run: Run) -> str:
    """Return who ended a watch, and why: a person's rollback elsewhere does."""
    asked = list(session.tools.journal.events(run=run.id, kind="run.asked"))
    if not asked:
        return f"run {run.id} was aborted"
    why = str(asked[-1].data.get("reason") or "")
    return f"run {run.id} was ended by {asked[-1].actor}" + (f" ({why})" if why else "")


def _make_shift_record(shift: Shift) -> dict[str, object]:
    """Return what is answered otherwise than before, with the name that a person accepts it by."""
    return {"name": shift.name, "outcome": shift.outcome, "sentence": shift.sentence}


def _get_exit_code(verdict: str, action: str, rule: str) -> int:
    """Return the exit code: for a version left live, according to what kept guard from acting."""
    from backout.runbook.safety.permission import HELD_CODES, SOURCES_RULE

    if verdict == "regressed" and action != "void":
        return HELD_CODES.get(rule, 1)  # without a rule a person said no
    if action == "hold" and rule in HELD_CODES and rule != SOURCES_RULE:  # a step of a ramp that is not made
        return HELD_CODES[rule]
    return _CODES.get(action, 7)


def _refuse(session: Session, concluded: ConcludeResult, record: dict[str, object]) -> None:
    """Raise what the rules forbid and a person has to decide; the JSON stream still ends with the result."""
    refused = concluded.action == "refused"
    if not refused and not concluded.options:
        return
    did = "regressed, but not rolled back" if refused else f"{record['verdict']}, but held"
    session.shell.output.result("guard", {**record, "options": list(concluded.options) or None})
    raise Refused(
        f"{did}: {concluded.why}",
        where=session.tools.environment,
        rule=concluded.rule or None,
        options=concluded.options,
    )


guard.add_command(accept)
guard.add_command(explain)
guard.add_command(plan)
guard.add_command(replay)
guard.add_command(report)
