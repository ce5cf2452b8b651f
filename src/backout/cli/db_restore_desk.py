"""The desk of a restoring command: its tools, the run to pick up, and how a run is driven and shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.model.incident import RunState
from backout.model.plan import PlanKind

if TYPE_CHECKING:
    from backout.cli.live import Live
    from backout.cli.shell import Shell
    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.model.incident import Event, Run
    from backout.runbook.managed import BranchTools
    from backout.runbook.restore import RestoreTools
    from backout.runbook.unsigned import Accepted


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that a restoring command holds; `branches` where a vendor runs the database."""

    shell: Shell
    tools: RestoreTools
    stop: StopRequest
    live: Live
    branches: BranchTools | None = None

    @classmethod
    def open(
        cls, shell: Shell, config: Config, *, managed: bool | None = None, accepted: Accepted | None = None
    ) -> Desk:
        """Open it; which path is the one is asked unless it is known."""
        from backout.cli.live import Live as Shown  # noqa: PLC0415 only what acts pays for it
        from backout.journal.stop import StopRequest as Stop  # noqa: PLC0415 same
        from backout.runbook.unsigned import NONE_ACCEPTED  # noqa: PLC0415 same
        from backout.wiring.restore import restore_tools  # noqa: PLC0415 same

        stop = Stop(lambda: shell.output.say("stopping after the current step; Ctrl-C again stops now"))
        tools = restore_tools(config, stop, shell.output.say, accepted or NONE_ACCEPTED)
        live = Shown(shell.output, "db-restore")
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
