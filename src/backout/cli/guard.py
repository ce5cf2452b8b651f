"""`backout guard`: watch the fresh deployment, act as the policy says; and judge recorded traffic (`replay`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.analysis.remarks import underneath
from backout.cli import outcome
from backout.cli.accept import accept
from backout.cli.explain import explain
from backout.cli.forecast import plan
from backout.cli.options import group, pass_shell
from backout.cli.replay import replay
from backout.errors import BackoutError, Interrupted, Refused, UsageError, WorldMoved
from backout.model.incident import RunState
from backout.model.plan import PlanKind
from backout.model.policy import Mode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.cli.bench import Bench
    from backout.cli.shell import Shell
    from backout.model.incident import Run
    from backout.model.plan import Json

_CODES = {"stable": 0, "accept": 0, "hold": 7, "refused": 3, "void": 6}


@group(
    "guard",
    short_help="Watch the fresh deployment; roll back if it regressed.",
    invoke_without_command=True,
    epilog="""
Examples:
  backout guard -e production                  as the policy's mode says (default: observe)
  backout guard -e production --mode act --next -- start it, then deploy
  backout guard -e production --observe --for 5m
  backout guard -e production --follow         one deployment after the other
  backout guard plan -e production             what would it find, how fast?
  backout guard explain guard-18ace2c0         why did that watch end so?
  backout guard report -e production           may it act alone?
  backout guard -e production --expect 'GET /old/*=410'
  backout guard accept SHIFT -e production -m WHY -- it is intended
  backout guard replay requests.jsonl          judge recorded traffic
  backout guard replay --since 30d -e production
""",
)
@click.option("--mode", type=click.Choice([str(mode) for mode in Mode]), help="Overrides guard.mode of backout.toml.")
@click.option("--observe", is_flag=True, help="Only say what would be done (the same as --mode observe).")
@click.option("--for", "for_", metavar="TIME", help="Watch for this long (15m, 90s) instead of criteria.watch.")
@click.option("--early", is_flag=True, help="End as soon as the evidence says healthy; does not see leaks.")
@click.option(
    "--next",
    "wait_for_next",
    is_flag=True,
    help="First wait for the next deployment (or one since a stopped watch).",
)
@click.option("--follow", is_flag=True, help="Watch every deployment that comes, and what is live in between.")
@click.option("--next-timeout", metavar="TIME", default="30m", show_default=True, help="How long --next waits.")
@click.option("--expect", multiple=True, metavar="'METHOD /path=STATUS'", help="A change of answers that is intended.")
@click.option("--summary", metavar="FILE", help="Append how it ended, as Markdown, whatever the end.")
@click.option("--outputs", metavar="FILE", help="Append how it ended, as name=value lines, whatever the end.")
@click.option("--deployment-status", is_flag=True, help="Show it on the workflow's deployment, see docs/github.md.")
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
    expect: tuple[str, ...],
    summary: str | None,
    outputs: str | None,
    deployment_status: bool,
) -> int | None:
    """Watch the live deployment against the version before it, and act as the policy says.

    A healthy watch marks the version stable. A regressed one is rolled back in mode `act`, asked about in mode `ask`,
    and only reported in mode `observe`. Exit codes: 0 healthy, 1 regressed, 7 inconclusive or not the deployment, 3 a
    safety rule or a hold keeps guard from acting, 6 overtaken.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from backout.cli.pipeline import Wanted, told  # noqa: PLC0415 - a subcommand tells no pipeline

    flags = {"guard.mode": str(Mode.OBSERVE) if observe else mode, "criteria.watch": for_}
    next_within = next_timeout if wait_for_next else None
    wanted = Wanted(summary, outputs, deployment_status)
    if follow:
        if wait_for_next or wanted != Wanted():
            raise UsageError("--follow goes on for ever", hint="--follow without --next, --summary and the like")
        return _follow(shell, flags, expect, early=early)
    return told(shell, wanted, lambda: _watch(_opened(shell, flags, expect), early=early, next_within=next_within))


PAUSE_S = 30.0
"""After an error, a guard that follows waits so long before it looks again."""


def _follow(shell: Shell, flags: Mapping[str, str | None], expect: tuple[str, ...], *, early: bool) -> int:
    """Watch one deployment after the other; an error ends a watch, only Ctrl-C ends this."""
    from backout.cli import errors  # noqa: PLC0415 loaded already
    from backout.runbook.follow import wait_for_unwatched  # noqa: PLC0415

    bench = _opened(shell, flags, expect)
    while True:
        bench.live.say("waiting for a deployment that nobody has watched; Ctrl-C ends this")
        try:
            wait_for_unwatched(bench.tools, bench.live.event)
            _watch(bench, early=early, next_within=None)
        except Interrupted:
            raise
        except BackoutError as error:
            errors.show(error, shell.output)
            bench.tools.clock.sleep(PAUSE_S)
        shell.output.answered = False  # each watch has an answer of its own


def _opened(shell: Shell, flags: Mapping[str, str | None], expect: tuple[str, ...]) -> Bench:
    from backout.cli.bench import open_bench  # noqa: PLC0415 - only commands that act pay for it
    from backout.config.expected import expected  # noqa: PLC0415 same

    config = shell.config(flags)
    health = config.environment.health
    meant = tuple(expected(text, str(health.url) if health else "") for text in expect)
    return open_bench(shell, config, "guard", stream=True).expecting(meant)


def _watch(bench: Bench, *, early: bool, next_within: str | None) -> int:
    """Watch as the configuration and the flags say; `next_within`: first wait that long for another deployment."""
    from backout.cli.bench import busy  # noqa: PLC0415 - only commands that act pay for it
    from backout.config.scalars import seconds  # noqa: PLC0415
    from backout.runbook import guard as procedure  # noqa: PLC0415

    _check_channels(bench.shell, bench)
    unfinished = bench.unfinished()
    if unfinished is not None and not procedure.may_go_on(unfinished):
        raise busy(unfinished)
    if next_within is not None:
        return _watch_next(bench, unfinished, seconds(next_within, "--next-timeout"), early=early)
    if unfinished is not None:
        run = _picked_up(bench, unfinished)
        if _concluded(bench, run).get("action") != "void":
            return finish(bench, run)
    return finish(bench, _watched_to_its_end(bench, early=early))


def _picked_up(bench: Bench, unfinished: Run) -> Run:
    refuse_another_mode(unfinished, bench.tools.policy.guard.mode)
    bench.live.say(f"picking up run {unfinished.id}, which was interrupted")
    return bench.drive(unfinished.id)


def _watch_next(bench: Bench, unfinished: Run | None, within_s: float, *, early: bool) -> int:
    """Wait for the next deployment and watch it; one that came since an earlier watch was interrupted is that one.

    The earlier watch is about what is not asked for any more, so it is ended, and its record says so. A rollback that
    one led to is finished first: what is live is bad until then.
    """
    from backout.cli.bench import busy  # noqa: PLC0415 - see `_watch`
    from backout.runbook import next_deployment  # noqa: PLC0415
    from backout.runbook.aside import end, gives_way  # noqa: PLC0415

    tools = bench.tools
    after = next_deployment.newest_known(tools, unfinished)
    if unfinished is not None and not gives_way(unfinished):
        finish(bench, _picked_up(bench, unfinished))
        bench.shell.output.answered = False  # the answer is that of the watch to come
    elif unfinished is not None:
        bench.live.say(f"{unfinished.id} was interrupted; the next deployment is asked for, so it is ended")
        reason = "guard --next: another deployment is to be watched"
        left = end(tools.runs, tools.clock, unfinished, actor=tools.actor, reason=reason)
        if left is not None:
            raise busy(left)
    bench.live.say(f"waiting for the next deployment of {tools.environment}")
    came_before = next_deployment.wait_for_next(tools, within_s, after=after)
    run = _watched_to_its_end(bench, early=early)
    if came_before and _concluded(bench, run).get("action") == "void":  # the one that was waited for came now
        run = _watched_to_its_end(bench, early=early)
    return finish(bench, run)


def _watched_to_its_end(bench: Bench, *, early: bool) -> Run:
    from backout.runbook import guard as procedure  # noqa: PLC0415 - see `_watch`

    policy = bench.tools.policy
    with bench.telling():
        plan = procedure.plan(bench.tools, mode=policy.guard.mode, for_s=policy.criteria.watch_s, early=early)
    bench.renew_card(meanwhile=True)
    bench.live.say(f"{plan.steps[0].title}, then {plan.steps[-1].title} (mode {policy.guard.mode})")
    return bench.drive(bench.submit(plan, plan.why))


def _check_channels(shell: Shell, bench: Bench) -> None:
    """Say before the watch that nobody can be told of its end, and begin with what earlier commands left to deliver."""
    if bench.tools.notifier is not None:
        shell.complain_of(bench.tools.notifier.flush(0.0))
    elif bench.tools.policy.guard.mode is Mode.ACT:
        shell.output.warn("nobody will be told what guard does: [notify] has no channel (docs/notifications.md)")


def refuse_another_mode(unfinished: Run, mode: Mode) -> None:
    """Refuse to go on with a run that may do more (or less) than what was typed now allows."""
    conclude = next((step.args for step in unfinished.plan.steps if step.action == "conclude"), None)
    recorded = Mode.ACT if conclude is None else Mode(str(conclude["mode"]))
    if recorded is not mode and not (conclude is None and mode is Mode.ASK):
        raise Refused(
            f"run {unfinished.id} was interrupted in mode {recorded}, and mode {mode} is asked for now",
            where=unfinished.environment,
            options=(
                f"go on with it as it is: `backout runs resume {unfinished.id}`",
                f"give it up first: `backout runs abort {unfinished.id} -m WHY`",
            ),
        )


def _concluded(bench: Bench, run: Run) -> dict[str, Json]:
    found = bench.tools.runs.result(run.id, "conclude")
    return found if isinstance(found, dict) else {}


def _began(bench: Bench, run: Run) -> Run:
    """Return the watch that a run came from, through any number of rollbacks."""
    from backout.runbook.incident import watch_of  # noqa: PLC0415 loaded already where a run was driven

    return watch_of(bench.tools.runs, run.id) or run


def _watched(bench: Bench, run: Run) -> dict[str, Json]:
    found = bench.tools.runs.result(_began(bench, run).id, "watch")
    return found if isinstance(found, dict) else {}


def finish(bench: Bench, run: Run) -> int:
    """Say the verdict, what was done, what is live as read back, and what to type next; then renew the card."""
    try:
        return _answer(bench, run)
    finally:
        bench.renew_card()


def _answer(bench: Bench, run: Run) -> int:
    watched = _watched(bench, run)
    decision = watched.get("decision")
    reason = str(decision["reason"]) if isinstance(decision, dict) else ""
    verdict = str(watched.get("verdict", "unmeasured"))
    record: dict[str, object] = {
        "type": "result",
        "environment": run.environment,
        "run_id": run.id,
        "guard_run_id": _began(bench, run).id,
        "verdict": verdict,
        "reason": reason,
        "decision": outcome.timed(decision),
        "shifts": _shifts(decision),
    }
    if run.plan.kind is PlanKind.ROLLBACK:
        return _rolled_back(bench, run, record, verdict)
    if run.plan.kind is PlanKind.SECRETS:
        return _mended(bench, run, record, verdict)
    concluded = _concluded(bench, run)
    action = str(concluded.get("action", "none"))
    live = underneath(bench.tools.deployments.history())
    record |= {
        "action": action,
        "why": concluded.get("why"),
        "would": concluded.get("would"),
        "policy": concluded.get("policy"),
        "rule": concluded.get("rule"),
        "mode": run.plan.step("conclude").args["mode"],
        "live_version": live.main,
        "deployment_id": live.id,
        "report_path": concluded.get("report"),
        "provider_mark": concluded.get("provider_mark"),
        "measured": concluded.get("measured"),
        "verified": None,
    }
    if run.state is RunState.ABORTED:
        raise WorldMoved(_why_aborted(bench, run), where=run.environment, hint=f"backout status -e {run.environment}")
    _refuse(bench, action, concluded, record)
    bench.shell.output.result("guard", record, _words(verdict, reason, action, concluded, _shifts(decision)))
    bench.shell.output.next(f"backout status -e {run.environment}", *_follow_up(run, verdict, action))
    return _code(verdict, action, concluded)


def _why_aborted(bench: Bench, run: Run) -> str:
    """Return who ended a watch, and why: a person's rollback elsewhere does."""
    asked = list(bench.tools.journal.events(run=run.id, kind="run.asked"))
    if not asked:
        return f"run {run.id} was aborted"
    why = str(asked[-1].data.get("reason") or "")
    return f"run {run.id} was ended by {asked[-1].actor}" + (f" ({why})" if why else "")


def _shifts(decision: object) -> list[dict[str, object]]:
    """Return what is answered otherwise than before, each with the name by which a person accepts it."""
    if not isinstance(decision, dict):
        return []
    from backout.decoding import decode_values  # noqa: PLC0415 - only where a watch ended
    from backout.model.verdict import Decision  # noqa: PLC0415 same

    shifts = decode_values(decision, Decision).shifts
    return [{"name": shift.name, "outcome": shift.outcome, "sentence": shift.sentence} for shift in shifts]


def _code(verdict: str, action: str, concluded: dict[str, Json]) -> int:
    """Return the exit code: of a version that was left as it is, by what kept guard from acting."""
    from backout.runbook.permission import HELD_CODES, SOURCES_RULE  # noqa: PLC0415 loaded where a run was driven

    rule = str(concluded.get("rule") or "")
    if verdict == "regressed" and action != "void":
        return HELD_CODES.get(rule, 1)  # without a rule a person said no
    if action == "hold" and rule in HELD_CODES and rule != SOURCES_RULE:  # a step of a ramp that is not made
        return HELD_CODES[rule]
    return _CODES.get(action, 7)


def _refuse(bench: Bench, action: str, concluded: dict[str, Json], record: dict[str, object]) -> None:
    """Raise what the rules forbid and a person has to decide; the JSON stream ends with the result all the same."""
    options = concluded.get("options")
    if action != "refused" and not options:
        return
    did = "regressed, but not rolled back" if action == "refused" else f"{record['verdict']}, but held"
    bench.shell.output.result("guard", {**record, "options": options})
    raise Refused(
        f"{did}: {concluded['why']}",
        where=bench.tools.environment,
        rule=str(concluded.get("rule")),
        options=tuple(str(option) for option in options) if isinstance(options, list) else (),
    )


def _follow_up(run: Run, verdict: str, action: str) -> tuple[str, ...]:
    """Return what to type about the verdict: a void one must not lead to a rollback of what is live now."""
    if action == "void":
        return (f"backout guard -e {run.environment}  # watch the deployment that is live now",)
    return (f"backout rollback -e {run.environment} -m WHY",) if verdict == "regressed" else ()


def _words(verdict: str, reason: str, action: str, concluded: dict[str, Json], shifts: list[dict[str, object]]) -> str:
    mark = concluded.get("provider_mark")
    problem = mark.get("problem") if isinstance(mark, dict) else None
    did = {
        "stable": f"marked stable here only ({problem})" if problem else "marked stable",
        "hold": "nothing was changed",
        "accept": "accepted by policy, not marked stable",
        "void": "the verdict is void, nothing was changed",
    }.get(action, action)
    why = concluded.get("why")
    lines = [f"{verdict}: {reason}", did[:1].upper() + did[1:] + (f": {why}" if why and why != reason else "")]
    lines += [f"Told: {shift['sentence']}" for shift in shifts if shift["outcome"] == "told"]
    if concluded.get("would"):
        lines.append(f"Would: {concluded['would']}")
    if concluded.get("report"):
        lines.append(f"Report: {concluded['report']}")
    return "\n".join(lines)


def _rolled_back(bench: Bench, run: Run, record: dict[str, object], verdict: str) -> int:
    from backout.cli.rollback import human_end  # noqa: PLC0415

    did = outcome.rollback_record(bench.tools, run)
    hops = outcome.hops(bench.tools, run)
    told = [line for hop in hops if (line := outcome.hop_sentence(hop))]
    human = "\n".join([f"{verdict}: {record['reason']}", *told, human_end(bench.shell, bench, run, did)])
    bench.shell.output.result("guard", {**record, "action": "rollback", **did, "hops": hops}, human)
    bench.shell.output.next(f"backout status -e {run.environment}", *outcome.undo_commands(run))
    return 5 if run.state is not RunState.DONE else 1


def _mended(bench: Bench, run: Run, record: dict[str, object], verdict: str) -> int:
    """Say that secrets were set in place of a rollback, and what that came to."""
    from backout.cli.secrets_push import end_of  # noqa: PLC0415 only where secrets were set

    did, text = end_of(bench, run)
    told = bench.tools.runs.result(run.id, "fall_back")
    why = str(told.get("why") or "") if isinstance(told, dict) else ""
    lines = [f"{verdict}: {record['reason']}", text, *([f"Nothing more was done: {why}"] if why else [])]
    bench.shell.output.result("guard", {**record, **did, "action": "push_secret"}, "\n".join(lines))
    bench.shell.output.next(f"backout status -e {run.environment}", f"backout secrets check -e {run.environment}")
    return 5 if run.state is not RunState.DONE else 1


@guard.command("report", short_help="What the watches came to: may guard act alone?")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the last N watches; default: all.")
@pass_shell
def report(shell: Shell, *, last: int | None) -> None:
    """Show what guard would have done, what people did about it, and whether it is time to arm it (mode = act)."""
    from backout import wiring  # noqa: PLC0415 - only commands that ask the provider pay for it
    from backout.cli.paint import paint_for  # noqa: PLC0415
    from backout.report import observed  # noqa: PLC0415
    from backout.runbook.observed import look_back  # noqa: PLC0415

    found = look_back(wiring.toolbox(shell.config()), last)
    style = shell.output.style
    human = observed.text(found, width=style.width, paint=paint_for(style))
    shell.output.result("guard-report", observed.record(found), human)


guard.add_command(accept)
guard.add_command(explain)
guard.add_command(plan)
guard.add_command(replay)
