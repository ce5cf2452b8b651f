"""The session of a restore command: its tools, the run to pick up, and how a run is driven and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.cli.support.glass import break_glass_as_typed
from backout.cli.support.waiting import telling_who_approves
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.value import Value
from backout.runbook.safety.aside import describe_keeper, find_keeper, gives_way, make_way

if TYPE_CHECKING:
    from backout.cli.guard.live import Live
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.model.incident.incident import Event, Run
    from backout.model.plan import Json, Plan
    from backout.runbook.recovery.managed import BranchTools
    from backout.runbook.recovery.tools import Accepted, RestoreTools

_TYPED = "restore.typed"
"""The note of the words that a restore was begun with."""


class RestoreRequest(Value, frozen=True):
    """How a rescue treats doubtful cases."""

    conflicts: str
    skip: tuple[str, ...]
    queues: bool


class RestoreSession(Value, frozen=True):
    """Everything that a restore command holds; `branches` where a vendor runs the database."""

    shell: Shell
    tools: RestoreTools
    stop: StopRequest
    live: Live
    branches: BranchTools | None = None

    @classmethod
    def open(
        cls, shell: Shell, config: Config, *, managed: bool | None = None, accepted: Accepted | None = None
    ) -> RestoreSession:
        """Open it; the path is looked up unless it is known."""
        from backout.cli.guard.live import Live as Shown
        from backout.journal.stop import StopRequest as Stop
        from backout.runbook.recovery.tools import NONE_ACCEPTED
        from backout.wiring.db.restore import make_restore_tools

        stop = Stop(lambda: shell.output.say("stopping after the current step; Ctrl-C again stops now"))
        tools = make_restore_tools(config, stop, shell.output.say, accepted or NONE_ACCEPTED)
        live = Shown(shell.output, "db-restore")
        database = config.environment.database
        if managed is False or database is None or database.managed is None:
            return cls(shell, tools, stop, live)
        from backout.wiring.db.branches import is_managed, make_branch_tools

        here = is_managed(config) if managed is None else managed
        return cls(shell, tools, stop, live, make_branch_tools(config, tools) if here else None)

    def find_unfinished(self, target: str | None, mode: str | None) -> Run | None:
        """Return the restore to pick up: without TARGET any interrupted one, with TARGET the one it began.

        A watch is not in the way, except that one under way blocks a side instance, which is not urgent.

        Raises:
            Busy: another run keeps the environment, or another restore.
        """
        from backout.cli.support.session import make_busy_error

        keeper = find_keeper(self.tools.runs, self.tools.environment)
        if keeper is None:
            return None
        if gives_way(keeper) and not (mode == "side" and keeper.state is RunState.RUNNING):
            return None
        if keeper.state is not RunState.INTERRUPTED or keeper.plan.kind is not PlanKind.RECOVER:
            raise make_busy_error(keeper)
        if (target is not None or mode == "undo") and not self._began(keeper, target, mode):
            raise make_busy_error(keeper)
        return keeper

    def take_over(self, plan: Plan, reason: str, target: str | None, mode: str | None) -> str:
        """Accept the plan of a restore, and record what was typed; a watch that keeps the environment ends.

        Raises:
            Busy: something else keeps it.
            Refused: nobody's approval could be proven.
        """
        from backout.cli.support.session import make_busy_error

        tools = self.tools
        if not self.shell.flags.glass:
            tools.runs.check_approvable(plan)  # before anything is ended for it
        keeper = find_keeper(tools.runs, tools.environment)
        if keeper is not None and gives_way(keeper) and keeper.plan.hash != plan.hash:
            what = f"restore: {reason}"
            self.shell.output.say(describe_keeper(keeper, plan))
            left = make_way(tools.runs, tools.clock, tools.environment, actor=tools.actor, to=what)
            if left is not None:
                raise make_busy_error(left)
        run = tools.journal.submit(plan, actor=tools.actor, reason=reason)
        typed: dict[str, Json] = {"run": run, "target": target, "mode": mode}
        tools.journal.note(tools.environment, _TYPED, run, typed, actor=tools.actor)
        return run

    def _began(self, run: Run, target: str | None, mode: str | None) -> bool:
        """Whether these words began a run; of one that an earlier version began this is not known."""
        notes = self.tools.journal.events(environment=run.environment, kind=_TYPED)
        typed = next((note.data for note in notes if note.data.get("run") == run.id), None)
        return typed is not None and (typed["target"], typed["mode"]) == (target, mode)

    def refuse_busy(self) -> None:
        """Raise Busy while a run is unfinished: what it is about to put in place must not be removed."""
        from backout.cli.support.session import make_busy_error

        keeper = find_keeper(self.tools.runs, self.tools.environment)
        if keeper is not None and not (gives_way(keeper) and keeper.state is RunState.INTERRUPTED):
            raise make_busy_error(keeper)

    def drive(self, run: str) -> Run:
        """Drive a run with Ctrl-C as a request to stop at the next boundary."""
        from backout.runbook.recovery.restoring import make_actions

        known = make_actions(self.tools)
        if self.branches is not None:
            from backout.runbook.recovery.steps.managed import make_actions as at_vendor

            known |= at_vendor(self.branches)
        found = self.tools.runs.find(run)
        if found is not None:
            self.live.follow(found.plan)
        break_glass_as_typed(self.shell, self.tools.runs, run, actor=self.tools.actor)
        self.stop.install()
        try:
            with telling_who_approves(self.shell, self.tools.runs, run):
                return self.tools.journal.drive(run, known, actor=self.tools.actor, notify=self._notify)
        finally:
            self.stop.restore()
            self.live.end()

    def _notify(self, event: Event) -> None:
        if event.kind == "step.progress":
            self.live.say(f"  {format_progress(event.data)}")
        else:
            self.live.event(event)


def format_progress(data: object) -> str:
    """Return the progress of a step.

    >>> format_progress({"doing": "replaying", "done": 50_000_000, "of": 200_000_000, "per_s": 25_000_000,
    ...     "left_s": 6.0})
    'replaying 50 MB of 200 MB, 25 MB/s, 6.0 s left'
    >>> format_progress({"doing": "rows of public.orders", "done": 50000, "of": 75000, "per_s": 0, "left_s": None})
    'rows of public.orders 50,000 of 75,000'
    """
    from backout.report.times import format_duration

    assert isinstance(data, dict)
    in_bytes = str(data["doing"]).startswith(("unpacking", "replaying"))
    scale, unit = (1e6, " MB") if in_bytes else (1, "")
    done, whole, rate = (float(data[name]) / scale for name in ("done", "of", "per_s"))
    speed = f", {rate:,.0f}{unit}/s" if rate else ""
    left = "" if data["left_s"] is None else f", {format_duration(float(data['left_s']))} left"
    return f"{data['doing']} {done:,.0f}{unit} of {whole:,.0f}{unit}{speed}{left}"
