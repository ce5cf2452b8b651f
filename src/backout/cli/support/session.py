"""The session of a command that drives runs: tools, stop requests, live output, and picking up interrupted runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.cli.guard.consent import Consent
from backout.cli.guard.live import Live
from backout.cli.support.glass import break_glass_as_typed
from backout.errors import Busy
from backout.escaping import shorten
from backout.journal.stop import StopRequest
from backout.model.incident.incident import RunState
from backout.model.value import Value
from backout.report.times import format_time
from backout.runbook.incident.tell import tell_failure
from backout.runbook.procedures import Actions
from backout.runbook.safety.aside import describe_keeper, find_keeper, gives_way, make_way
from backout.runbook.safety.clock import measure_clock
from backout.wiring.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.journal.stored import StoredJournal
    from backout.model.guard.policy import Expectation
    from backout.model.incident.incident import Event, Run
    from backout.model.plan import Plan
    from backout.ports import AnyAction
    from backout.runbook.toolbox import Toolbox


class Session(Value, frozen=True):
    """Everything that a command which drives runs holds."""

    shell: Shell
    tools: Toolbox
    stop: StopRequest
    live: Live

    def expecting(self, meant: tuple[Expectation, ...]) -> Session:
        """Return the session of a guard for which these changes of answers are also intended."""
        if not meant:
            return self
        guard = replace(self.tools.policy.guard, expect=(*self.tools.policy.guard.expect, *meant))
        return replace(self, tools=replace(self.tools, policy=replace(self.tools.policy, guard=guard)))

    def drive(self, run: str) -> Run:
        """Drive a run (and what it hands over to) with Ctrl-C as a request to stop at the next boundary."""
        found = self.tools.runs.find(run)
        others: Mapping[str, AnyAction] = {}
        if found is not None:
            self.live.follow(found.plan)
            opened = self.tools.recovery.restoring
            if opened is not None and any(step.action.startswith("db_") for step in found.plan.steps):
                from backout.runbook.recovery.restoring import make_actions as restoring

                others = restoring(opened())
        measure_clock(self.tools)
        break_glass_as_typed(self.shell, self.tools.runs, run, actor=self.tools.actor)
        self.stop.install()
        try:
            with self.telling(run):
                actions = Actions(self.tools, others)
                return self.tools.journal.drive(run, actions, actor=self.tools.actor, notify=self._notify)
        finally:
            self.stop.restore()
            self.live.end()

    @contextmanager
    def telling(self, run: str = "") -> Iterator[None]:
        """Send a notice when the block ends with an error: of a run, or of a watch that could not begin."""
        try:
            yield
        except Exception as error:
            tell_failure(self.tools, run, error)
            raise

    def _notify(self, event: Event) -> None:
        if event.kind == "run.submitted":
            found = self.tools.runs.find(event.run)
            if found is not None:
                self.live.follow(found.plan)
        self.live.event(event)

    def renew_card(self, *, meanwhile: bool = False) -> None:
        """Write the environment's card anew (safety rule 20); `meanwhile`: in the background."""
        from backout.runbook.incident.card import keep_card, keep_card_meanwhile

        (keep_card_meanwhile if meanwhile else keep_card)(self.tools)

    def submit(self, plan: Plan, reason: str) -> str:
        """Accept a plan."""
        return self.tools.journal.submit(plan, actor=self.tools.actor, reason=reason)

    def take_over(self, plan: Plan, reason: str) -> str:
        """Accept a plan that a person typed; what gives way to it ends, with the reason in its record.

        Raises:
            Busy: something else keeps it, such as the rollback that the watch just led to.
            Refused: nobody's approval could be proven.
        """
        if not self.shell.flags.glass:
            self.tools.runs.check_approvable(plan)  # before anything is ended for it
        watch = self.find_unfinished()
        if watch is not None and gives_way(watch) and watch.plan.hash != plan.hash:
            tools = self.tools
            self.live.say(describe_keeper(watch, plan))
            what = f"{plan.kind}: {reason}"
            left = make_way(tools.runs, tools.clock, tools.environment, actor=tools.actor, to=what)
            if left is not None:
                raise make_busy_error(left)
            self.live.say(f"{watch.id} is ended")
        return self.submit(plan, reason)

    def find_unfinished(self) -> Run | None:
        """Return the run that keeps the environment, or None when it is free."""
        return find_keeper(self.tools.runs, self.tools.environment)

    def in_the_way(self) -> Run | None:
        """Return the unfinished run that a person's command has to pick up or respect; None: there is none.

        A watch is none, nor is what waits for an approval: it is ended, and that is said, by `take_over`, once the
        person's word is there.
        """
        keeper = self.find_unfinished()
        return None if keeper is None or gives_way(keeper) else keeper


def make_busy_error(run: Run) -> Busy:
    """Return the error that names the run which keeps the environment, who drives it, and what to type."""
    give_up = f"backout runs abort {run.id}"
    if run.state is RunState.RUNNING:
        who, hint = f"driven by {run.holder} since {format_time(run.started_at)}", f"wait for it, or: {give_up}"
    elif run.state is RunState.BLOCKED:
        who, hint = "it waits for a person's decision", f"backout runs show {run.id}, or: {give_up}"
    elif run.state is RunState.WAITING:
        who = "it waits for a person's approval, and has changed nothing"
        hint = f"backout runs approve {run.id} -m WHY, or: {give_up}"
    elif run.pause is not None:
        who = f"it was paused by {shorten(run.pause.by)}: {shorten(run.pause.why)}"
        hint = f"backout runs resume {run.id}, or: {give_up}"
    else:
        who, hint = "it was interrupted and no process drives it", f"backout runs resume {run.id}, or: {give_up}"
    done = f"{run.steps_done} of {len(run.plan.steps)} steps done"
    return Busy(
        f"{run.environment} is kept by run {run.id} ({shorten(run.plan.why)}; {done}); {who}",
        where=run.environment,
        hint=hint,
    )


def open_session(
    shell: Shell,
    config: Config,
    name: str,
    *,
    stream: bool = False,
    within_s: float | None = None,
    ticks: bool = True,
    stop: StopRequest | None = None,
    journal: StoredJournal | None = None,
) -> Session:
    """Return the session of a command.

    Args:
        stream: `--json` writes a line for every tick and event.
        within_s, journal: see `Hooks`.
        ticks: whether the seconds of a watch are shown.
        stop: asks it to stop, in place of Ctrl-C.
    """
    live = Live(shell.output, name, stream=stream)
    stop = stop or StopRequest(lambda: live.say("stopping after the current step; Ctrl-C again stops now"))
    asked = (lambda plan: _confirm_plan(shell, live, plan)) if shell.interactive else None
    consent = Consent(shell.stdin, live.say) if shell.interactive else None
    spools = name in ("panic", "rollback")
    hooks = Hooks(
        stop,
        live.watching if ticks else None,
        asked,
        live.say_once,
        within_s,
        live.say,
        consent=consent,
        spools=spools,
        journal=journal,
    )
    return Session(shell, shell.toolbox(config, hooks), stop, live)


def _confirm_plan(shell: Shell, live: Live, plan: Plan) -> bool:
    from backout.cli.support.paint import paint_for
    from backout.report.plans import format_plan

    live.end()
    shell.output.say(format_plan(plan, width=shell.output.talk.width, paint=paint_for(shell.output.talk)))
    shell.output.prompt("Carry out this plan? [y/N] ")
    return shell.stdin.readline().strip().lower() in {"y", "yes"}
