"""`backout db restore`: a side instance, the damaged rows, or the whole; and back again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from backout.cli.options import Command, pass_shell
from backout.errors import PartlyDone, UsageError
from backout.model.incident import RunState
from backout.model.plan import PlanKind

if TYPE_CHECKING:
    from backout.cli.live import Live
    from backout.cli.shell import Shell
    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.model.incident import Event, Run
    from backout.model.plan import Json, Plan
    from backout.model.recovery import SideInstance
    from backout.runbook.managed import BranchTools
    from backout.runbook.restore import RestoreTools


@click.command(
    "restore",
    cls=Command,
    short_help="Side instance, rescue of damaged rows, or the whole.",
    epilog="""
Examples:
  backout db restore "before drop of users.email" -e production --dry-run
  backout db restore "before migration 20261125_split" -e production --side
  backout db restore 76652 -e production -m "wrong UPDATE"
  backout db restore "2026-11-25 14:03:00" -e production --swap
  backout db restore -e production --undo
""",
)
@click.argument("target", required=False)
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
@click.option("-m", "--message", metavar="WHY", help="Why; goes into the journal.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan, of a rescue with rows by table; change nothing.")
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@pass_shell
def restore(
    shell: Shell,
    *,
    target: str | None,
    mode: str | None,
    drop_side: str | None,
    conflicts: str,
    skip: tuple[str, ...],
    queues: bool,
    message: str | None,
    dry_run: bool,
    typed: str | None,
) -> int:
    """Bring the database, or what of it was damaged, back to TARGET.

    TARGET: a time, a restore point, a deployment, an LSN, a transaction id, "before migration NAME" or "before drop of
    TABLE[.COLUMN]". It is resolved to an exact position, and everything that it needs is checked, before anything is
    touched. A side instance comes first, always; where a vendor runs the database, it is a branch there. Without TARGET
    an interrupted restore is picked up.
    """
    from backout.cli.confirm import confirm  # noqa: PLC0415 only what acts pays for it

    config = shell.config()
    desk = Desk.open(shell, config)
    if drop_side is not None or mode in ("list", "prepare", "release"):
        return _kept_things(desk, mode, drop_side, message, typed)
    found = None if dry_run else desk.unfinished(target if mode != "undo" else "undo")
    if found is not None:
        shell.output.say(f"picking up run {found.id} ({found.plan.why}), which was interrupted; its plan stands")
        return _finish(desk, desk.drive(found.id))
    plan = _planned(desk, target, mode, Wish(conflicts, skip, queues))
    if dry_run:
        return _show(desk, plan)
    shell.output.say(_text(shell, plan) + "\n")
    reason = message or f"{plan.why} (no reason given)"
    if mode != "side":  # a side instance touches nothing that anybody uses
        reason = confirm(shell, config, f"restore {plan.why}", message=message, typed=typed)
    reason = shell.masked(config, reason)
    run = desk.tools.journal.submit(plan, actor=desk.tools.actor, reason=reason)
    return _finish(desk, desk.drive(run))


def resume(shell: Shell, run: Run) -> int:
    """Go on with an interrupted restore (`backout runs resume`)."""
    shell.take(environment=run.environment)
    desk = Desk.open(shell, shell.config(), managed=any(s.action.startswith("db_branch") for s in run.plan.steps))
    return _finish(desk, desk.drive(run.id))


@dataclass(frozen=True, slots=True)
class Wish:
    """How a rescue treats what is not plain."""

    conflicts: str
    skip: tuple[str, ...]
    queues: bool


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that a restoring command holds; `branches` where a vendor runs the database."""

    shell: Shell
    tools: RestoreTools
    stop: StopRequest
    live: Live
    branches: BranchTools | None = None

    @classmethod
    def open(cls, shell: Shell, config: Config, *, managed: bool | None = None) -> Desk:
        """Open it; which path is the one is asked unless it is known."""
        from backout.cli.live import Live as Shown  # noqa: PLC0415 only what acts pays for it
        from backout.journal.stop import StopRequest as Stop  # noqa: PLC0415 same
        from backout.wiring.restore import restore_tools  # noqa: PLC0415 same

        stop = Stop(lambda: shell.output.say("stopping after the current step; Ctrl-C again stops now"))
        tools, live = restore_tools(config, stop, shell.output.say), Shown(shell.output, "db-restore")
        database = config.environment.database
        if managed is False or database is None or database.managed is None:
            return cls(shell, tools, stop, live)
        from backout.wiring.branches import branch_tools, is_managed  # noqa: PLC0415 only with a vendor

        here = is_managed(config) if managed is None else managed
        return cls(shell, tools, stop, live, branch_tools(config, tools) if here else None)

    def unfinished(self, target: str | None) -> Run | None:
        """Return the restore to pick up. Raises Busy when another run keeps the environment, or TARGET is a new one."""
        from backout.cli.bench import busy  # noqa: PLC0415 only what acts pays for it

        newest = next(iter(self.tools.runs.runs(self.tools.environment)), None)
        if newest is None or newest.state.is_over:
            return None
        if newest.state is not RunState.INTERRUPTED or newest.plan.kind is not PlanKind.RECOVER or target is not None:
            raise busy(newest)
        return newest

    def refuse_busy(self) -> None:
        """Raise Busy while a run is not over: what it is about to move in must not be removed."""
        from backout.cli.bench import busy  # noqa: PLC0415 only what acts pays for it

        newest = next(iter(self.tools.runs.runs(self.tools.environment)), None)
        if newest is not None and not newest.state.is_over:
            raise busy(newest)

    def drive(self, run: str) -> Run:
        """Drive a run with Ctrl-C as a request to stop at the next boundary."""
        from backout.runbook.restoring import actions  # noqa: PLC0415 only what acts pays for it

        known = actions(self.tools)
        if self.branches is not None:
            from backout.runbook.managed_steps import actions as at_vendor  # noqa: PLC0415 only with a vendor

            known |= at_vendor(self.branches)
        found = self.tools.runs.find(run)
        if found is not None:
            self.live.follow(found.plan)
        self.stop.install()
        try:
            return self.tools.journal.drive(run, known, actor=self.tools.actor, notify=self._notify)
        finally:
            self.stop.restore()
            self.live.end()

    def _notify(self, event: Event) -> None:
        if event.kind == "step.progress":
            self.live.say(f"  {progress_text(event.data)}")
        else:
            self.live.event(event)


def progress_text(data: object) -> str:
    """Return how far a step is.

    >>> progress_text({"doing": "replaying", "done": 50_000_000, "of": 200_000_000, "per_s": 25_000_000, "left_s": 6.0})
    'replaying 50 MB of 200 MB, 25 MB/s, 6.0 s left'
    >>> progress_text({"doing": "rows of public.orders", "done": 50000, "of": 75000, "per_s": 0, "left_s": None})
    'rows of public.orders 50,000 of 75,000'
    """
    from backout.report.times import duration  # noqa: PLC0415 only what acts pays for it

    assert isinstance(data, dict)  # noqa: S101 as recorded
    in_bytes = str(data["doing"]).startswith(("unpacking", "replaying"))
    scale, unit = (1e6, " MB") if in_bytes else (1, "")
    done, whole, rate = (float(data[name]) / scale for name in ("done", "of", "per_s"))
    speed = f", {rate:,.0f}{unit}/s" if rate else ""
    left = "" if data["left_s"] is None else f", {duration(float(data['left_s']))} left"
    return f"{data['doing']} {done:,.0f}{unit} of {whole:,.0f}{unit}{speed}{left}"


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


def _show(desk: Desk, plan: Plan) -> int:
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
    out.result("db-restore", payload, text)
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
            lines.append(f"{each['table']}: changed again since, kept as they are: {_some(each['examples'])}")
        if each["triggers"]:
            lines.append(f"{each['table']}: triggers that do not fire: {_some(each['triggers'])}")
        if each["left"] and columns:
            lines.append(f"{each['table']}: {each['left']}")
    headers = ("TABLE", "UPDATED", "INSERTED", "DELETED", "CONFLICTS", "COLUMNS, OR WHY IT IS LEFT ALONE")
    verb = "would be made again" if would else "made again"
    made = [f"{verb}: {' '.join(str(text).split())}" for text in definitions]
    return "\n".join([shell.output.table(headers, rows) or "nothing was damaged", *made, *lines])


def _some(values: Json) -> str:
    assert isinstance(values, list)  # noqa: S101 as recorded
    return ", ".join(map(str, values))


def _finish(desk: Desk, run: Run) -> int:
    """Say what there is now, as read back, and what to type next."""
    shell, tools = desk.shell, desk.tools
    if run.state is not RunState.DONE:
        raise PartlyDone(f"run {run.id} is {run.state}", hint=f"backout runs show {run.id}")
    results = {step.action: desk.tools.runs.result(run.id, step.action) for step in run.plan.steps}
    from backout.runbook.restore import kept, unprotected  # noqa: PLC0415 only what acts pays for it

    rescue = results.get("db_rescue") or results.get("db_branch_rescue") or results.get("db_undo_rescue")
    if results.get("db_branch_finalize") or (
        results.get("db_branch") and run.plan.steps[-1].action == "db_branch_look"
    ):
        from backout.cli.db_restore_managed import finish  # noqa: PLC0415 only with a vendor

        return finish(desk, run, results)
    swapped = results.get("db_read_back")
    side = results.get("db_side_open") if run.plan.steps[-1].action == "db_side_open" else None
    payload = {
        "run_id": run.id,
        "environment": run.environment,
        "why": run.plan.why,
        "side": side,
        "rescue": rescue,
        "swap": swapped,
        "kept": list(kept(tools)),
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
    if isinstance(swapped, dict):
        lines.append(
            f"live: timeline {swapped['timeline']} at {swapped['lsn']}, migration {swapped['migration_head'] or 'none'}"
        )
        lines.append(f"the data directory of before is kept: {swapped['kept']}")
        lines.append("UNPROTECTED: there is no verified base backup of this database until the next one")
        follow = [
            f"backout db backup --full -e {run.environment}",
            f"backout db restore --undo -e {run.environment}",
            f"backout db restore --release -e {run.environment}",
        ]
    shell.output.result("db-restore", payload, "\n".join(lines))
    shell.output.next(*follow)
    return 0


def _kept_things(desk: Desk, mode: str | None, drop_side: str | None, message: str | None, typed: str | None) -> int:
    if desk.branches is not None:
        raise UsageError(
            "side instances here are branches at the vendor",
            where=desk.tools.environment,
            hint=f"backout db branch list -e {desk.tools.environment}, and: backout db branch delete NAME",
        )
    if drop_side is not None:
        return _drop(desk, drop_side)
    if mode == "prepare":
        return _prepare(desk)
    return _list(desk) if mode == "list" else _release(desk, message, typed)


def _list(desk: Desk) -> int:
    from backout.runbook.restore import kept, unprotected  # noqa: PLC0415 only what acts pays for it

    out, found = desk.shell.output, desk.tools.sides.list()
    directories = kept(desk.tools)
    rows = [(each.name, str(each.state), each.how) for each in found]
    lines = [out.table(("SIDE INSTANCE", "STATE", "HOW"), rows) if rows else "no side instances"]
    lines += [f"{each.name}: psql {each.dsn!r}" for each in found if each.dsn]
    lines += [f"kept: {name}" for name in directories]
    protected = not unprotected(desk.tools)
    if not protected:
        lines.append("UNPROTECTED: there is no verified base backup of this database since the swap")
    payload = {
        "environment": desk.tools.environment,
        "sides": [side_record(each) for each in found],
        "kept": list(directories),
        "protected": protected,
    }
    out.result("db-restore", payload, "\n".join(lines))
    return 0


def side_record(side: SideInstance) -> dict[str, object]:
    """Return a side instance as JSON values."""
    from backout.model.recovery import show_lsn  # noqa: PLC0415 only what acts pays for it

    return {
        "name": side.name,
        "state": str(side.state),
        "how": side.how,
        "lsn": show_lsn(side.target_lsn),
        "dsn": side.dsn,
        "pid": side.pid,
    }


def _drop(desk: Desk, name: str) -> int:
    desk.refuse_busy()
    if desk.tools.sides.find(name) is None:
        raise UsageError(f"no side instance {name!r}", hint="backout db restore --list")
    desk.tools.sides.drop(name)
    payload = {"environment": desk.tools.environment, "dropped": name}
    desk.shell.output.result("db-restore", payload, f"side instance {name} is gone")
    return 0


def _release(desk: Desk, message: str | None, typed: str | None) -> int:
    from backout.cli.confirm import confirm  # noqa: PLC0415 only what acts pays for it
    from backout.runbook.restore import kept, release  # noqa: PLC0415 same

    desk.refuse_busy()
    directories, bases = kept(desk.tools), desk.tools.bases.unpacked()
    if not directories and not bases:
        raise UsageError("nothing is kept", where=desk.tools.environment)
    confirm(
        desk.shell,
        desk.shell.config(),
        f"remove {', '.join((*directories, *bases))} for good",
        message=message,
        typed=typed,
    )
    gone = release(desk.tools)
    names = [*gone, *bases]
    payload = {"environment": desk.tools.environment, "released": names}
    desk.shell.output.result("db-restore", payload, "\n".join(f"removed: {name}" for name in names))
    return 0


def _prepare(desk: Desk) -> int:
    from backout.runbook.restore import prepare_base  # noqa: PLC0415 only what acts pays for it

    base = prepare_base(desk.tools)
    payload = {"environment": desk.tools.environment, "prepared": base}
    desk.shell.output.result("db-restore", payload, f"base backup {base} lies unpacked here")
    return 0
