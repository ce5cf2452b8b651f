"""`backout db restore`: a side instance, the damaged rows, or the whole; and back again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from backout.cli.also_back import ALSO_BACK, agree, asked_lines, asked_record, command_of
from backout.cli.db_restore_desk import Desk
from backout.cli.db_restore_kept import kept_lines, kept_things
from backout.cli.options import REASON, Command, pass_shell
from backout.errors import PartlyDone, Unmeasured, UsageError
from backout.escaping import brief
from backout.model.incident import RunState

if TYPE_CHECKING:
    from backout.cli.shell import Shell
    from backout.model.incident import Run
    from backout.model.plan import Json, Plan


@click.command(
    "restore",
    cls=Command,
    short_help="Side instance, rescue of damaged rows, or the whole.",
    epilog="""
Examples:
  backout db restore "before drop of users.email" -e production --dry-run
  backout db restore "before migration 20261125_split" -e production --side
  backout db restore 76652 -e production -m "wrong UPDATE"
  backout db restore 76652 76655 76701 -e production -m "a bad worker"
  backout db restore --since 14:03 --until 14:11 -e production --dry-run
  backout db restore "2026-11-25 14:03:00" -e production --swap
  backout db restore -e production --undo
""",
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--since", metavar="TIME", help="Everything that was committed from then on is the damage.")
@click.option("--until", metavar="TIME", help="With --since: until then (now).")
@click.option("--side", "mode", flag_value="side", help="A side instance to look at; the live database is not touched.")
@click.option("--rescue", "mode", flag_value="rescue", help="The damaged rows and columns alone (the default).")
@click.option("--swap", "mode", flag_value="swap", help="The whole; the old data directory is kept.")
@click.option("--undo", "mode", flag_value="undo", help="Take the latest swap or rescue back.")
@click.option("--list", "mode", flag_value="list", help="Side instances, and data directories that are kept.")
@click.option("--drop-side", metavar="NAME", help="Stop a side instance and remove it.")
@click.option("--release", "mode", flag_value="release", help="Remove kept data directories, and unpacked bases.")
@click.option(
    "--prepare", "mode", flag_value="prepare", help="Unpack the newest base: the next side instance is quick."
)
@click.option(
    "--conflicts",
    type=click.Choice(["live", "side"]),
    default="live",
    help="Rows that were changed again since the damage: keep them (live, the default) or overwrite them.",
)
@click.option("--skip", multiple=True, metavar="TABLE", help="Leave SCHEMA.TABLE alone in a rescue; repeatable.")
@click.option("--queues", is_flag=True, help="Rescue outbox and queue tables too: what is put back is sent again.")
@click.option(
    "--accept-unsigned",
    "unsigned",
    multiple=True,
    metavar="ID",
    help="Take this backup although it is not signed: to a side instance first; repeatable, recorded.",
)
@ALSO_BACK
@click.option("-m", "--message", type=REASON, metavar="WHY", help="Why; goes into the journal.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan, of a rescue with rows by table; change nothing.")
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
    """Bring the database, or what of it was damaged, back to TARGET.

    TARGET: a time, a restore point, a deployment, an LSN, a transaction id (`backout db transactions`), "latest",
    "before migration NAME" or "before drop of TABLE[.COLUMN]". It is resolved to an exact position, and everything that
    it needs is checked, before anything is touched. A side instance comes first, always; where a vendor runs the
    database, it is a branch there. Without TARGET
    an interrupted restore is picked up. Several transaction ids, "between TIME and TIME" (or --since, --until) and
    "during DEPLOYMENT" are taken back together, as if there had been none of them.
    """
    target = target_of(targets, since, until)
    from backout.cli.confirm import confirm  # noqa: PLC0415 only what acts pays for it
    from backout.runbook.unsigned import Acceptance, Accepted, check_plan, read_names, record_accepted  # noqa: PLC0415 same
    from backout.runbook.whole_cluster import one_alone  # noqa: PLC0415 same

    config = shell.config()
    accepted = Accepted(read_names(unsigned), to_side=mode == "side")
    desk = Desk.open(shell, config, accepted=accepted)
    if drop_side is not None or mode in ("list", "prepare", "release"):
        return kept_things(desk, mode, drop_side, message, typed)
    found = None if dry_run else desk.unfinished(target, mode)
    if found is not None:
        shell.output.say(f"picking up run {found.id} ({brief(found.plan.why)}), which was interrupted; its plan stands")
        return _finish(desk, desk.drive(found.id))
    plan = _planned(desk, target, mode, Wish(conflicts, skip, queues))
    check_plan(desk.tools, plan)
    ways = [f"--{mode}"] if mode in ("swap", "undo") else []
    ways += [word for name in unsigned for word in ("--accept-unsigned", name)]
    named = ("db", "restore", *([target] if target else ()), *ways)
    command = command_of(shell, config.name, *named, message=message, typed=typed)
    if dry_run:
        return _show(desk, plan, command, also_back)
    shell.output.say(_text(shell, plan) + "\n")
    plan = agree(shell, plan, also_back, command, one_alone(desk.tools, target if target and mode == "swap" else ""))
    reason = message or f"{plan.why} (no reason given)"
    if mode != "side":  # a side instance touches nothing that anybody uses
        reason = confirm(shell, config, f"restore {plan.why}", message=message, typed=typed)
    reason = shell.masked(reason)
    told = Acceptance(accepted.names, reason, desk.tools.actor, desk.tools.clock.now())
    record_accepted(desk.tools.journal, config.name, told)
    return _finish(desk, desk.drive(desk.take_over(plan, reason, target, mode)))


def resume(shell: Shell, run: Run) -> int:
    """Go on with an interrupted restore (`backout runs resume`)."""
    shell.take(environment=run.environment)
    from backout.runbook.unsigned import accepted_in  # noqa: PLC0415 only what acts pays for it

    managed = any(step.action.startswith("db_branch") for step in run.plan.steps)
    desk = Desk.open(shell, shell.config(), managed=managed, accepted=accepted_in(run.plan))
    return _finish(desk, desk.drive(run.id))


def target_of(targets: tuple[str, ...], since: str | None, until: str | None) -> str | None:
    """Return TARGET as one text. Raises UsageError: it is said twice, or an end has no beginning."""
    if since is None and until is None:
        return " ".join(targets) or None
    if targets or since is None:
        what = "--until without --since" if since is None else "TARGET and --since both say what the damage is"
        raise UsageError(what, hint="backout db restore --help")
    return f"between {since} and {until or 'now'}"


@dataclass(frozen=True, slots=True)
class Wish:
    """How a rescue treats what is not plain."""

    conflicts: str
    skip: tuple[str, ...]
    queues: bool


def _planned(desk: Desk, target: str | None, mode: str | None, wish: Wish) -> Plan:
    from backout.runbook import restore as procedure  # noqa: PLC0415 only what acts pays for it

    tools = desk.tools
    if mode != "undo" and target is None:
        raise UsageError("no TARGET, and no interrupted restore to pick up", hint="backout db restore --help")
    if desk.branches is not None:
        from backout.cli.db_restore_managed import planned  # noqa: PLC0415 only with a vendor

        return planned(desk.branches, target, mode, wish)
    if target is None:
        return procedure.plan_undo(tools)
    if mode == "side":
        return procedure.plan_side(tools, target)
    if mode == "swap":
        return procedure.plan_swap(tools, target)
    return procedure.plan_rescue(tools, target, conflicts=wish.conflicts, skip=wish.skip, queues=wish.queues)


def _text(shell: Shell, plan: Plan) -> str:
    from backout.cli.paint import paint_for  # noqa: PLC0415 only what acts pays for it
    from backout.report.plans import plan_text  # noqa: PLC0415 same

    return plan_text(plan, width=shell.output.talk.width, paint=paint_for(shell.output.talk))


def _show(desk: Desk, plan: Plan, command: str, also_back: tuple[str, ...]) -> int:
    from backout.cli.outcome import plan_record  # noqa: PLC0415 only a dry run
    from backout.runbook.rescue_steps import rescue_record  # noqa: PLC0415 same
    from backout.runbook.restoring import foresee  # noqa: PLC0415 same

    out = desk.shell.output
    rescue: dict[str, Json] | None = None
    text = _text(desk.shell, plan)
    if any(step.action == "db_rescue" for step in plan.steps):
        out.say("making side instances to count the damage; the live database is only read")
        rescue = rescue_record(foresee(desk.tools, plan))
    elif desk.branches is not None and any(step.action == "db_branch_rescue" for step in plan.steps):
        from backout.runbook.managed_steps import foresee as foresee_at_vendor  # noqa: PLC0415 only with a vendor

        out.say("making two branches to count the damage; the live database is only read")
        rescue = rescue_record(foresee_at_vendor(desk.branches, plan))
    if rescue is not None:
        text += "\n\n" + rescue_text(desk.shell, rescue, would=True)
    payload = {"dry_run": True, "environment": plan.environment, "plan": plan_record(plan), "rescue": rescue}
    payload |= asked_record(plan, command, also_back)
    out.result("db-restore", payload, "\n".join([text, *asked_lines(plan, command, also_back)]))
    out.say("\nnothing was changed (dry run)")
    return 0


def rescue_text(shell: Shell, rescue: dict[str, Json], *, would: bool = False) -> str:
    """Return what a rescue did, or would do, by table."""
    tables, definitions = rescue["tables"], rescue["definitions"]
    assert isinstance(tables, list)  # noqa: S101 as recorded
    assert isinstance(definitions, list)  # noqa: S101 same
    rows, lines = [], []
    for each in tables:
        assert isinstance(each, dict)  # noqa: S101 same
        counts = [f"{int(str(each[name])):,}" for name in ("updated", "inserted", "deleted", "conflicts")]
        columns = each["columns"]
        assert isinstance(columns, list)  # noqa: S101 same
        rows.append((str(each["table"]), *counts, ", ".join(map(str, columns)) or str(each["left"])))
        if each["conflicts"]:
            why = "changed again since, or what they refer to is not there"
            lines.append(f"{each['table']}: left as they are ({why}): {_some(each['examples'])}")
        if each["triggers"]:
            lines.append(f"{each['table']}: triggers that do not fire: {_some(each['triggers'])}")
        if each["left"] and columns:
            lines.append(f"{each['table']}: {each['left']}")
    headers = ("TABLE", "UPDATED", "INSERTED", "DELETED", "CONFLICTS", "COLUMNS, OR WHY IT IS LEFT ALONE")
    verb = "would be made again" if would else "made again"
    made = [f"{verb}: {' '.join(str(text).split())}" for text in definitions]
    notes = rescue["notes"]
    assert isinstance(notes, list)  # noqa: S101 same
    left = left_out_lines(rescue)
    nothing = "" if made or left else "nothing was damaged"
    return "\n".join([shell.output.table(headers, rows, whole=True) or nothing, *made, *lines, *map(str, notes), *left])


def left_out_lines(rescue: dict[str, Json]) -> list[str]:
    """Return what of the damage is left, each with the reason and the SQL; and how definitions differ from before."""
    lines = []
    for each in _records(rescue, "left_out"):
        lines.append(f"left out: {each['what']}: {each['reason']}")
        lines += [] if each["asked"] else [f"    {line}" for line in str(each["sql"]).splitlines()]
    for each in _records(rescue, "differences"):
        lines.append(f"other than before the damage: {each['what']}")
        lines += [f"    - {line}" for line in str(each["before"]).splitlines()]
        lines += [f"    + {line}" for line in str(each["live"]).splitlines()]
    return lines


def rescue_exit_code(rescue: Json) -> int:
    """Return 1 where damage is left that nobody asked to leave, 7 where nobody can see whether some is, else 0."""
    if not isinstance(rescue, dict):
        return 0
    left = [each for each in _records(rescue, "left_out") if not each["asked"]]
    return 1 if any(each["seen"] for each in left) else Unmeasured.exit_code if left else 0


def _records(rescue: dict[str, Json], name: str) -> list[dict[str, Json]]:
    """Return a list of a rescue's record; one of an earlier version has none."""
    found = rescue.get(name, [])
    assert isinstance(found, list)  # noqa: S101 as recorded
    return [each for each in found if isinstance(each, dict)]


def _some(values: Json) -> str:
    assert isinstance(values, list)  # noqa: S101 as recorded
    return ", ".join(map(str, values))


def _finish(desk: Desk, run: Run) -> int:
    """Say what there is now, as read back, and what to type next."""
    shell, tools = desk.shell, desk.tools
    if run.state is not RunState.DONE:
        raise PartlyDone(f"run {run.id} is {run.state}", hint=f"backout runs show {run.id}")
    results = {step.action: desk.tools.runs.result(run.id, step.action) for step in run.plan.steps}
    from backout.report.comparison import checked_lines, comparison_code, second_checks  # noqa: PLC0415 only what acts pays for it
    from backout.runbook.restore import kept_sizes, unprotected  # noqa: PLC0415 same
    from backout.runbook.unsigned import record_proved  # noqa: PLC0415 same
    from backout.runbook.whole_cluster import ALSO, LOST  # noqa: PLC0415 same

    record_proved(tools, run.plan, run.id)
    rescue = results.get("db_rescue") or results.get("db_branch_rescue") or results.get("db_undo_rescue")
    if results.get("db_branch_finalize") or (
        results.get("db_branch") and run.plan.steps[-1].action == "db_branch_look"
    ):
        from backout.cli.db_restore_managed import finish  # noqa: PLC0415 only with a vendor

        return finish(desk, run, results)
    swapped, (compared, before) = results.get("db_read_back"), second_checks(results)
    side = results.get("db_side_open") if run.plan.steps[-1].action == "db_side_open" else None
    directories = kept_sizes(tools)
    also = [note for note in run.plan.notes if note.startswith((ALSO, LOST))]
    payload = {
        "run_id": run.id,
        "environment": run.environment,
        "why": run.plan.why,
        "side": side,
        "rescue": rescue,
        "comparison": compared,
        "comparison_before": before,
        "swap": swapped,
        "also": also,
        "sequences": results.get("db_sequences"),
        "kept": [name for name, _ in directories],
        "kept_bytes": dict(directories),
        "protected": not unprotected(tools),
    }
    lines = [f"done: {run.plan.why}"]
    follow = [f"backout db restore --list -e {run.environment}"]
    if isinstance(side, dict):
        lines += [f"side instance {side['name']} ({side['how']}): psql {side['dsn']!r}"]
        follow = [f"backout db restore --drop-side {side['name']} -e {run.environment}"]
    if isinstance(rescue, dict):
        lines.append(rescue_text(shell, rescue))
        follow = [f"backout db restore --undo -e {run.environment}"]
    lines += checked_lines(before, compared)
    # Damage that is left says more than that nothing was seen.
    codes = (rescue_exit_code(rescue), comparison_code(compared), comparison_code(before) % Unmeasured.exit_code)
    code = min(filter(None, codes), default=0)
    if isinstance(swapped, dict):
        lines.append(
            f"live: timeline {swapped['timeline']} at {swapped['lsn']}, migration {swapped['migration_head'] or 'none'}"
        )
        lines.append(f"the data directory of before is kept: {swapped['kept']}")
        lines += kept_lines(desk, directories)
        lines += also
        from backout.report.sequences import sequence_lines  # noqa: PLC0415 only what acts pays for it

        lines += sequence_lines(results.get("db_sequences"))
        lines.append("UNPROTECTED: there is no verified base backup of this database until the next one")
        follow = [
            f"backout db backup --full -e {run.environment}",
            f"backout db restore --undo -e {run.environment}",
            f"backout db restore --release -e {run.environment}",
        ]
    shell.output.result("db-restore", payload, "\n".join(lines))
    shell.output.next(*follow)
    return code
