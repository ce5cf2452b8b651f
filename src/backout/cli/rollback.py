"""`backout rollback`: plan first, confirm, drive, and end with what the provider says is live."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from backout.cli import outcome
from backout.cli.also_back import ALSO_BACK, agree, asked_lines, asked_record, command_of, went_back_lines
from backout.cli.confirm import confirm
from backout.cli.options import REASON, command, pass_shell
from backout.errors import Busy, Refused, UsageError
from backout.model.incident import RunState
from backout.model.plan import Plan, PlanKind
from backout.report.times import clock, rfc3339

if TYPE_CHECKING:
    from backout.cli.bench import Bench
    from backout.cli.shell import Shell
    from backout.model.incident import Run
    from backout.model.plan import PlanRefused
    from backout.plan.rollback import Request
    from backout.runbook.already import There


_GOES_BACK = "the database goes back to "
FEW = 3
"""So many versions that were passed over are named; more are counted."""


@command(
    "rollback",
    short_help="Go back to the last stable version, or to TARGET.",
    epilog="""
Examples:
  backout rollback -e staging                         to the last stable version
  backout rollback -e production -m "500s on /api" --confirm production
  backout rollback "2 hours ago" -e staging --dry-run the plan, nothing else
  backout rollback 3f2a91 -e staging --no-wait        end after the read-back
""",
)
@click.argument("target", required=False)
@click.option(
    "-m", "--message", type=REASON, metavar="WHY", help="Why; goes into the deployment's message and the report."
)
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--no-wait", is_flag=True, help="End after reading back what is live; no verification, no report.")
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@click.option("--with-database", is_flag=True, help="Take the database back, too, to before the migration in the way.")
@ALSO_BACK
@click.option("--accept-unproven", is_flag=True, help="Accept a version that no watch, or no answer now, has proved.")
@click.option("--restore-secrets", is_flag=True, help="Accept that the target's own, older secret values come back.")
@click.option("--carry-secrets", is_flag=True, help="Upload the target's code again, with the secrets as they are now.")
@click.option(
    "--force",
    type=(click.Choice(["schema"]), str),
    metavar="schema MIGRATION",
    help="You know that the old code works with this migration head (`unknown` when it cannot be read).",
)
@pass_shell
def rollback(
    shell: Shell,
    *,
    target: str | None,
    message: str | None,
    dry_run: bool,
    no_wait: bool,
    typed: str | None,
    with_database: bool,
    also_back: tuple[str, ...],
    accept_unproven: bool,
    restore_secrets: bool,
    carry_secrets: bool,
    force: tuple[str, str] | None,
) -> int:
    """Go back to the last stable version, or to TARGET.

    TARGET may be a version id, a deployment id, a number, a tag, a git sha (or a prefix of one), or a time. Typed again
    after it has gone back there, it says so and ends as the first one did; without TARGET as well, for an hour: to go
    one further back, name the version.
    """
    from backout.cli.bench import open_bench  # noqa: PLC0415 - only commands that act pay for it
    from backout.plan.rollback import Request  # noqa: PLC0415

    if restore_secrets and carry_secrets:
        raise UsageError("--restore-secrets and --carry-secrets contradict each other", hint="choose one of them")
    config = shell.config()
    bench = open_bench(shell, config, "rollback")
    unfinished = None if dry_run else bench.in_the_way()
    if unfinished is not None:
        _check_same(bench, unfinished, target, with_database=with_database)
        version = str(unfinished.plan.step("activate").args["version"])
        shell.output.say(
            f"picking up run {unfinished.id} (to version {version[:8]}), which was interrupted; its plan stands"
        )
        return finish(bench, bench.drive(unfinished.id))
    request = Request(
        message=shell.masked(message or ""),
        target=target,
        wait=not no_wait,
        accept_unproven=accept_unproven,
        force_secrets=restore_secrets,
        carry_secrets=carry_secrets,
        force_schema=force[1] if force else "",
    )
    plan = _planned(bench, request, target, with_database=with_database)
    if not isinstance(plan, Plan):
        return _already(bench, plan, dry_run=dry_run)
    more = ["--accept-unproven"] * accept_unproven + ["--restore-secrets"] * restore_secrets
    more += ["--carry-secrets"] * carry_secrets + ["--no-wait"] * no_wait
    words = ("rollback", *([target] if target else ()), "--with-database", *more)
    command = command_of(shell, config.name, *words, message=message, typed=typed)
    if dry_run:
        return _show(shell, plan, command, also_back)
    shell.output.say(_text(shell, plan))
    shell.output.say("")
    if with_database:
        plan = agree(shell, plan, also_back, command, _one_alone(bench, plan))
    version = str(plan.step("activate").args["version"])
    what = f"roll back to version {version[:8]}" + (", and the database with it" if with_database else "")
    reason = confirm(shell, config, what, message=message, typed=typed)
    if not message and config.protected:  # elsewhere nobody was asked why: what runs is what --dry-run shows
        from backout.plan.rollback import worded  # noqa: PLC0415

        plan = worded(plan, reason, bench.tools.equivalents)
    return finish(bench, bench.drive(bench.take_over(plan, reason)))


def _already(bench: Bench, there: There, *, dry_run: bool) -> int:
    """Say that what is gone back to is live at 100 %, by which run: nothing is to be done."""
    out, tools, run = bench.shell.output, bench.tools, there.run
    if run is not None:
        record = outcome.rollback_record(tools, run)
    else:
        record = {"run_id": None, "environment": tools.environment, "from_version": None, "to_version": there.version}
        record |= {"state": None, "verified": None, "criteria": [], "proof": None, "report_path": None}
    since, read_at = there.live.created_at, there.read_at
    record |= {"live_version": there.live.main, "deployment_id": there.live.id, "live_since": rfc3339(since)}
    record |= {"read_back_at": rfc3339(read_at), "already": True, "dry_run": dry_run}
    record |= {} if there.further is None else {"further": there.further or None}
    by = f", by run {run.id}" if run is not None else ""
    said = f"nothing to do: version {there.live.main} is live at 100 % since {clock(since)}{by} (read {clock(read_at)})"
    if there.further is not None:
        said += "; that was the rollback" + ("" if there.further else ", and the rules allow none further back")
    out.result("rollback", record, said)
    further = f"backout rollback {there.further} -e {tools.environment} -m WHY  # one further back"
    why_not = f"backout deployments list -e {tools.environment}  # each version, and what speaks against it"
    out.next(
        f"backout status -e {tools.environment}",
        *(() if there.further is None else (further if there.further else why_not,)),
        *(outcome.undo_commands(run) if run is not None else ()),
    )
    return outcome.exit_code(tools, run) if run is not None else 0


def _check_same(bench: Bench, run: Run, target: str | None, *, with_database: bool) -> None:
    """Return when the run that keeps the environment is the one that is typed again, and nobody drives it.

    Without TARGET it is whatever rollback was interrupted; with it, the one to that version. Raises Busy, UsageError.
    """
    from backout.cli.bench import busy  # noqa: PLC0415 - loaded already

    if run.state is not RunState.INTERRUPTED or run.plan.kind is not PlanKind.ROLLBACK:
        raise busy(run)
    way = f"finish it: `backout runs resume {run.id}`, or give it up: `backout runs abort {run.id} -m WHY`"
    has_database = any(step.action.startswith("db_") for step in run.plan.steps)
    if has_database is not with_database:
        what = "takes the database back, too" if has_database else "leaves the database alone"
        raise Busy(f"run {run.id} was interrupted, and it {what}", where=run.environment, hint=way)
    if target is None:
        return
    from backout.runbook.clock import target_version  # noqa: PLC0415
    from backout.runbook.observe import observe  # noqa: PLC0415

    typed = target_version(bench.tools, target, observe(bench.tools))
    planned = str(run.plan.step("activate").args["version"])
    if typed != planned:
        what = f"run {run.id}, a rollback to version {planned}, was interrupted; '{target}' is version {typed}"
        raise Busy(what, where=run.environment, hint=way)


def _planned(bench: Bench, request: Request, target: str | None, *, with_database: bool) -> Plan | There:
    """Return the plan, or what is live where that rollback was done already. Raises Refused."""
    from backout.runbook.rollback import prepare  # noqa: PLC0415

    if with_database:
        from backout.runbook.together import prepare_together  # noqa: PLC0415

        situation, planned = prepare_together(bench.tools, request)
    else:
        situation, planned = prepare(bench.tools, request)
    from backout.runbook.already import already_there, went_back  # noqa: PLC0415

    if target is None and not with_database:
        further = str(planned.step("activate").args["version"]) if isinstance(planned, Plan) else ""
        there = went_back(bench.tools, situation, further)
        if there is not None:
            return there
    if isinstance(planned, Plan):
        return planned
    from backout.runbook.ways import with_ways  # noqa: PLC0415 only where a plan was refused

    there = None if target is None or with_database else already_there(bench.tools, situation, target)
    if there is not None:
        return there
    raise refusal(with_ways(bench.tools, planned, situation), bench.tools.environment)


def refusal(refused: PlanRefused, environment: str) -> Refused:
    """Return the error that says why there is no plan, what was looked at, and what is allowed."""
    others = [each for each in refused.rejections if each.reason not in refused.reason]
    looked_at = tuple(f"not {each.version}: {each.reason}" for each in others)
    if len(others) > FEW:
        rules = Counter(each.rule.partition(" ")[2] or "other reasons" for each in others)
        counted = ", ".join(f"{count} {rule}" for rule, count in rules.items())
        looked_at = (
            f"not these {len(others)} either ({counted}): `backout deployments list -e {environment}` has each",
        )
    return Refused(refused.reason, where=environment, rule=refused.rule, options=(*looked_at, *refused.options))


def _text(shell: Shell, plan: Plan) -> str:
    from backout.cli.paint import paint_for  # noqa: PLC0415
    from backout.report.plans import plan_text  # noqa: PLC0415

    return plan_text(plan, width=shell.output.talk.width, paint=paint_for(shell.output.talk))


def _show(shell: Shell, plan: Plan, command: str, also_back: tuple[str, ...]) -> int:
    args = plan.step("activate").args
    facts = {"from_version": args["leaving"], "to_version": args["version"], **asked_record(plan, command, also_back)}
    text = "\n".join([_text(shell, plan), *asked_lines(plan, command, also_back)])
    return outcome.dry_run(shell, "rollback", plan, facts, text)


def _one_alone(bench: Bench, plan: Plan) -> str:
    """Return how the database is looked at, or its damaged rows are brought back, without what else goes back."""
    from backout.runbook.whole_cluster import one_alone  # noqa: PLC0415 - only where a database goes back too

    assert bench.tools.restoring is not None  # noqa: S101 the plan was made with it
    before = next((note for note in plan.notes if note.startswith(_GOES_BACK)), "").removeprefix(_GOES_BACK)
    return one_alone(bench.tools.restoring(), before)


def finish(bench: Bench, run: Run) -> int:
    """Say what is live, as read back, and what to type next."""
    shell, tools = bench.shell, bench.tools
    record = outcome.rollback_record(tools, run)
    shell.output.result("rollback", record, human_end(shell, bench, run, record))
    code = outcome.exit_code(tools, run)
    follow = f"backout status -e {run.environment}"
    if any(step.action.startswith("db_") for step in run.plan.steps):
        for line in went_back_lines(tools.runs, run):
            shell.output.say(line)
        shell.output.warn("the database is UNPROTECTED until the next verified base backup")
        follow = f"backout db backup --full -e {run.environment}"
        undo = f"backout db restore --undo -e {run.environment} -m WHY  # undo: the database first, then the code"
        shell.output.next(follow, undo, *outcome.undo_commands(run))
    else:
        shell.output.next(follow, *outcome.undo_commands(run))
    if any(step.action == "verify" for step in run.plan.steps):  # who does not wait, does not wait for a card either
        bench.renew_card()
    return code


def human_end(shell: Shell, bench: Bench, run: Run, record: dict[str, object]) -> str:
    """Return the last words for a person: the criteria, what is live, where the report is."""
    lines = []
    proof = outcome.verification(bench.tools, run.id)
    if proof is not None:
        from backout.cli.paint import paint_for  # noqa: PLC0415
        from backout.report.plans import verification_text  # noqa: PLC0415

        style = shell.output.style
        lines.append(verification_text(proof, width=style.width, paint=paint_for(style)))
    lines.append(outcome.live_sentence(record, bench.tools, run))
    if record["report_path"]:
        lines.append(f"Report: {record['report_path']}")
    return "\n".join(lines)
