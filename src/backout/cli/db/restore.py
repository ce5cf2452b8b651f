"""`backout db restore`: a side instance, the damaged rows, or the whole; and back again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.db.rescue_table import format_rescue
from backout.cli.db.restore_kept import describe_kept, manage_kept
from backout.cli.db.restore_preview import foresee_rescue, previewing
from backout.cli.db.restore_session import RestoreRequest, RestoreSession
from backout.cli.support.also_back import ALSO_BACK, agree, format_command, list_agreement_lines, make_agreement_record
from backout.cli.support.glass import BREAK_GLASS
from backout.cli.support.options import REASON, Command, pass_shell
from backout.errors import PartlyDone, Unmeasured, UsageError
from backout.escaping import shorten
from backout.model.incident.incident import RunState

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.database.rescue import RescueReport
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.model.steps.restore import SwappedResult


@click.command(
    "restore",
    cls=Command,
    short_help="Restore to a side instance, rescue damaged rows, or restore the whole.",
    epilog="""
Examples:
  backout db restore "before drop of users.email" -e production --dry-run
  backout db restore "before migration 20261125_split" -e production --side
  backout db restore 76652 -e production -m "wrong UPDATE"
  backout db restore 76652 76655 76701 -e production -m "a bad worker"
  backout db restore --since 14:03 --until 14:11 -e production --dry-run
  backout db restore "2026-11-25 14:03:00" -e production --swap
  backout db restore -e production --undo
  backout db restore 0d2f51 -e production --undo
""",
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--since", metavar="TIME", help="Everything committed from then on is the damage.")
@click.option("--until", metavar="TIME", help="With --since: until then (now).")
@click.option("--side", "mode", flag_value="side", help="A side instance to look at; the live database is not touched.")
@click.option("--rescue", "mode", flag_value="rescue", help="Only the damaged rows and columns (the default).")
@click.option("--swap", "mode", flag_value="swap", help="The whole; the old data directory is kept.")
@click.option("--undo", "mode", flag_value="undo", help="Undo the latest swap or rescue, or that of run TARGET.")
@click.option("--list", "mode", flag_value="list", help="List side instances, and kept data directories.")
@click.option("--drop-side", metavar="NAME", help="Stop a side instance and remove it.")
@click.option("--release", "mode", flag_value="release", help="Remove kept data directories and unpacked bases.")
@click.option(
    "--prepare", "mode", flag_value="prepare", help="Unpack the newest base, so that the next side instance is quick."
)
@click.option(
    "--conflicts",
    type=click.Choice(["live", "side", "new-keys"]),
    default="live",
    help="Rows changed again since the damage: keep them (live, the default) or overwrite them (side). new-keys keeps "
    "them, and gives new keys to old rows whose numbers newer rows have.",
)
@click.option("--skip", multiple=True, metavar="TABLE", help="Leave SCHEMA.TABLE alone in a rescue; repeatable.")
@click.option("--queues", is_flag=True, help="Also rescue outbox and queue tables: what is put back is sent again.")
@click.option(
    "--accept-unsigned",
    "unsigned",
    multiple=True,
    metavar="ID",
    help="Accept this backup although it is not signed: to a side instance first; repeatable, recorded.",
)
@ALSO_BACK
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; recorded in the journal.")
@BREAK_GLASS
@click.option(
    "-n", "--dry-run", is_flag=True, help="Print the plan (for a rescue, with rows by table) and change nothing."
)
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@pass_shell
def restore(
    shell: Shell,
    *,
    targets: tuple[str, ...],
    since: str | None,
    until: str | None,
    mode: str | None,
    drop_side: str | None,
    conflicts: str,
    skip: tuple[str, ...],
    queues: bool,
    unsigned: tuple[str, ...],
    also_back: tuple[str, ...],
    message: str | None,
    dry_run: bool,
    typed: str | None,
) -> int:
    """Bring the database, or the damaged part of it, back to TARGET.

    TARGET: a time, a restore point, a deployment, an LSN, a transaction id (`backout db transactions`), "latest",
    "before migration NAME" or "before drop of TABLE[.COLUMN]". It is resolved to an exact position, and everything it
    needs is checked, before anything is touched. A side instance always comes first; for a database that a vendor runs,
    it is a branch there. Without TARGET an interrupted restore is picked up. Several transaction ids, "between TIME and
    TIME" (or --since, --until) and "during DEPLOYMENT" are taken back together, as if none of them had happened.
    """
    target = join_target(targets, since, until)
    from backout.cli.support.confirm import confirm
    from backout.plan.query_cache import note_cache
    from backout.runbook.recovery.tools import Accepted
    from backout.runbook.recovery.unsigned import Acceptance, check_plan, read_names, record_accepted
    from backout.runbook.recovery.whole_cluster import explain_one_alone
    from backout.wiring.declared import binds_hyperdrive

    config = shell.config()
    accepted = Accepted(read_names(unsigned), to_side=mode == "side")
    session = RestoreSession.open(shell, config, accepted=accepted)
    if drop_side is not None or mode in ("list", "prepare", "release"):
        return manage_kept(session, mode, drop_side, message, typed)
    found = None if dry_run else session.find_unfinished(target, mode)
    if found is not None:
        shell.output.say(
            f"picking up run {found.id} ({shorten(found.plan.why)}), which was interrupted; its plan stands"
        )
        return _finish(session, _drive(session, found.id))
    plan = _make_plan(session, target, mode, RestoreRequest(conflicts, skip, queues))
    plan = note_cache(plan) if binds_hyperdrive(config) else plan
    check_plan(session.tools, plan)
    ways = [f"--{mode}"] if mode in ("swap", "undo") else []
    ways += [word for name in unsigned for word in ("--accept-unsigned", name)]
    named = ("db", "restore", *([target] if target else ()), *ways)
    command = format_command(shell, config.name, *named, message=message, typed=typed)
    if dry_run:
        return _show(session, plan, command, also_back)
    shell.output.say(_format_text(shell, plan) + "\n")
    plan = agree(
        shell, plan, also_back, command, explain_one_alone(session.tools, target if target and mode == "swap" else "")
    )
    reason = message or f"{plan.why} (no reason given)"
    if mode != "side":  # a side instance touches nothing in use
        reason = confirm(shell, config, f"restore {plan.why}", message=message, typed=typed)
    reason = shell.mask_reason(reason)
    told = Acceptance(accepted.names, reason, session.tools.actor, session.tools.clock.now())
    record_accepted(session.tools.journal, config.name, told)
    return _finish(session, _drive(session, session.take_over(plan, reason, target, mode)))


def resume(shell: Shell, run: Run) -> int:
    """Continue an interrupted restore (`backout runs resume`)."""
    shell.take(environment=run.environment)
    from backout.runbook.recovery.unsigned import read_accepted

    managed = any(step.action.startswith("db_branch") for step in run.plan.steps)
    session = RestoreSession.open(shell, shell.config(), managed=managed, accepted=read_accepted(run.plan))
    return _finish(session, _drive(session, run.id))


def _drive(session: RestoreSession, run: str) -> Run:
    with previewing(session, run):
        return session.drive(run)


def join_target(targets: tuple[str, ...], since: str | None, until: str | None) -> str | None:
    """Return TARGET as one text. Raises UsageError: it is given twice, or an end has no beginning."""
    if since is None and until is None:
        return " ".join(targets) or None
    if targets or since is None:
        what = "--until without --since" if since is None else "TARGET and --since both name the damage"
        raise UsageError(what, hint="backout db restore --help")
    return f"between {since} and {until or 'now'}"


def _make_plan(session: RestoreSession, target: str | None, mode: str | None, request: RestoreRequest) -> Plan:
    from backout.runbook.recovery import restore as procedure

    tools = session.tools
    if mode != "undo" and target is None:
        raise UsageError("no TARGET, and no interrupted restore to pick up", hint="backout db restore --help")
    if session.branches is not None:
        from backout.cli.db.restore_managed import make_plan

        return make_plan(session.branches, target, mode, request)
    if mode == "undo" or target is None:
        return procedure.plan_undo(tools, target)
    if mode == "side":
        return procedure.plan_side(tools, target)
    if mode == "swap":
        return procedure.plan_swap(tools, target)
    return procedure.plan_rescue(tools, target, conflicts=request.conflicts, skip=request.skip, queues=request.queues)


def _format_text(shell: Shell, plan: Plan) -> str:
    from backout.cli.support.paint import paint_for
    from backout.report.plans import format_plan

    return format_plan(plan, width=shell.output.talk.width, paint=paint_for(shell.output.talk))


def _show(session: RestoreSession, plan: Plan, command: str, also_back: tuple[str, ...]) -> int:
    from backout.model.steps.base import to_json
    from backout.model.steps.branches import BranchRescueStep
    from backout.model.steps.rescue import RescueStep
    from backout.report.event_records import make_plan_record

    out = session.shell.output
    rescue: RescueReport | None = None
    text = _format_text(session.shell, plan)
    if plan.has(RescueStep) or plan.has(BranchRescueStep):
        sides = "side instances" if session.branches is None else "two branches"
        out.say(f"making {sides} to count the damage; the live database is only read")
        rescue = foresee_rescue(session, plan)
    if rescue is not None:
        text += "\n\n" + format_rescue(session.shell, rescue, would=True)
    payload = {
        "dry_run": True,
        "environment": plan.environment,
        "plan": make_plan_record(plan),
        "rescue": to_json(rescue),
    }
    payload |= make_agreement_record(plan, command, also_back)
    out.result("db-restore", payload, "\n".join([text, *list_agreement_lines(plan, command, also_back)]))
    out.say("\nnothing was changed (dry run)")
    return 0


def rescue_exit_code(rescue: RescueReport | None) -> int:
    """Return 1 if damage is left that was not to be left, 7 if it cannot be seen whether any is, else 0."""
    left = [each for each in rescue.left_out if not each.asked] if rescue is not None else []
    return 1 if any(each.seen for each in left) else Unmeasured.exit_code if left else 0


def _list_undos(session: RestoreSession, run: Run, rescue: RescueReport) -> list[str]:
    """Return what to type after a rescue to undo it; after an undo, to make it again, or to undo what was before."""
    from backout.model.steps.rescue import UndoRescueStep
    from backout.runbook.recovery.managed import BRANCH_SWAPPED
    from backout.runbook.recovery.tools import SWAPPED
    from backout.runbook.recovery.undoable import find_earlier

    again = f"backout db restore --undo -e {run.environment}"
    if not run.plan.has(UndoRescueStep):
        return [again]
    lines = [f"{again}  # once nothing is in its way"] if rescue.leaves_something else []
    swapped = SWAPPED if session.branches is None else BRANCH_SWAPPED
    earlier = find_earlier(session.tools, swapped, run.plan.arguments(UndoRescueStep).mark)
    if earlier is not None:
        lines.append(f"backout db restore {earlier} --undo -e {run.environment}  # the restore before it")
    return lines or [f"backout runs show {run.id}"]


def _format_swapped(swapped: SwappedResult) -> list[str]:
    head = swapped.migration_head or "none"
    return [
        f"live: timeline {swapped.timeline} at {swapped.lsn}, migration {head}",
        f"the data directory of before is kept: {swapped.kept}",
    ]


def _finish(session: RestoreSession, run: Run) -> int:
    """Say what is there now, as read back, and what to type next.

    In one piece: the JSON, the lines and the next commands are of the same few results.
    """
    from backout.model.steps.base import to_json
    from backout.model.steps.branches import BranchLookStep, BranchRescueStep, FinalizeStep
    from backout.model.steps.rescue import RescueStep, UndoRescueStep
    from backout.model.steps.restore import SequencesStep, SideOpenStep, SwappedStep
    from backout.ports import find_result

    shell, tools = session.shell, session.tools
    if run.state is not RunState.DONE:
        raise PartlyDone(f"run {run.id} is {run.state}", hint=f"backout runs show {run.id}")
    from backout.cli.support.also_back import make_second_check
    from backout.cli.support.cached import describe_cache
    from backout.runbook.recovery.restore import is_unprotected, list_kept_sizes
    from backout.runbook.recovery.unsigned import record_proved
    from backout.runbook.recovery.whole_cluster import ALSO, LOST

    record_proved(tools, run.plan, run.id)
    runs, last = tools.runs, run.plan.steps[-1]
    if run.plan.has(FinalizeStep) or last.does(BranchLookStep):
        from backout.cli.db.restore_managed import finish

        return finish(session, run)
    rescues = (kind for kind in (RescueStep, BranchRescueStep, UndoRescueStep) if run.plan.has(kind))
    rescue = next((find_result(runs, run.id, kind) for kind in rescues), None)
    swapped, check = find_result(runs, run.id, SwappedStep), make_second_check(runs, run)
    side = find_result(runs, run.id, SideOpenStep) if last.does(SideOpenStep) else None
    sequences = find_result(runs, run.id, SequencesStep)
    directories = list_kept_sizes(tools)
    also = [note for note in run.plan.notes if note.startswith((ALSO, LOST))]
    payload = {
        "run_id": run.id,
        "environment": run.environment,
        "why": run.plan.why,
        "side": to_json(side),
        "rescue": to_json(rescue),
        **check.record(),
        "swap": to_json(swapped),
        "also": also,
        "sequences": to_json(sequences),
        "kept": [name for name, _ in directories],
        "kept_bytes": dict(directories),
        "protected": not is_unprotected(tools),
    }
    lines = [f"done: {run.plan.why}"]
    follow = [f"backout db restore --list -e {run.environment}"]
    if side is not None:
        lines += [f"side instance {side.name} ({side.how}): psql {side.dsn!r}"]
        follow = [f"backout db restore --drop-side {side.name} -e {run.environment}"]
    if rescue is not None:
        lines.append(format_rescue(shell, rescue, undone=run.plan.has(UndoRescueStep)))
        follow = _list_undos(session, run, rescue)
    lines += check.lines
    # Remaining damage matters more than that it could not be checked.
    code = min(filter(None, (rescue_exit_code(rescue), *check.codes)), default=0)
    if swapped is not None:
        lines += [*_format_swapped(swapped), *describe_kept(session, directories), *also]
        from backout.report.database.sequences import format_sequences

        lines += format_sequences(sequences)
        lines.append("UNPROTECTED: there is no verified base backup of this database until the next one")
        follow = [
            f"backout db backup --full -e {run.environment}",
            f"backout db restore --undo -e {run.environment}",
            f"backout db restore --release -e {run.environment}",
        ]
    stale_until, said = describe_cache(run.plan, tools.clock.now())
    payload["stale_reads_until"] = stale_until
    shell.output.result("db-restore", payload, "\n".join((*lines, *said)))
    shell.output.next(*follow)
    return code
