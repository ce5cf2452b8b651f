"""Wait for the next deployment: poll what is live until it is another one."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from backout.analysis.history.remarks import is_made_by, list_of_application
from backout.errors import AuthError, BackoutError, ProviderUnavailable
from backout.model.incident.incident import RunState
from backout.model.remark import RemarkKind
from backout.model.steps.guard import WatchStep
from backout.model.value import Value
from backout.report.times import format_duration
from backout.runbook.guard.checkpoint import load_remembered
from backout.runbook.guard.heartbeat import Heartbeat
from backout.runbook.guard.preflight import run_preflight
from backout.runbook.incident.diagnose import diagnose_failed_build
from backout.runbook.probing.looks import Looks, remember
from backout.runbook.safety.aside import end_run, gave_way
from backout.runbook.safety.hold_notices import HoldWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from backout.model.deployment import Deployment
    from backout.model.incident.incident import Run
    from backout.runbook.toolbox import Toolbox
    from backout.runbook.worker.hints import Hints

_LOOK_EVERY_S = 0.5
MEANWHILE_S = 43_200.0
"""A deployment that came unwatched counts as the next one when that is asked for, if it is no older than a night.

For so long an interrupted wait goes on as well, when it is typed again.
"""
_WAIT = "waits for the next deployment"


def end_outdated_plan(tools: Toolbox, unfinished: Run | None) -> Run | None:
    """Return what keeps the environment; a plan that waits for its approval is ended if something newer is live.

    Such a plan is about what is gone, and while it waits nothing watches the newer deployment.
    """
    if unfinished is None or unfinished.state is not RunState.WAITING:
        return unfinished
    seen = list_of_application(tools.deployments.history())
    if not seen or seen[0].created_at <= unfinished.started_at:
        return unfinished
    tools.say(f"{unfinished.id} waits for an approval, and something newer is live by now: it is ended")
    reason = "guard watches a newer deployment than the plan was made for"
    return end_run(tools.runs, tools.clock, unfinished, actor=tools.actor, reason=reason)


def find_newest_known(tools: Toolbox, unfinished: Run | None) -> str:
    """Return the deployment that the next one has to follow.

    What is live now, unless an earlier wait or watch was interrupted: then what was live at that time, so that what
    came meanwhile is not taken for old.
    """
    if unfinished is not None and unfinished.plan.has(WatchStep):
        return unfinished.plan.arguments(WatchStep).deployment
    waited = load_remembered(tools, _WAIT, _Waited)
    if waited is not None and waited.after and tools.clock.now() - waited.at <= MEANWHILE_S:
        return waited.after
    seen = list_of_application(tools.deployments.history())
    return seen[0].id if seen else ""


class _Waited(Value, frozen=True):
    """What was live when a wait began (Unix seconds), "" when that wait has ended."""

    after: str
    at: float


def wait_for_next(tools: Toolbox, timeout_s: float, *, after: str | None = None) -> bool:
    """Wait for a deployment that follows `after`; meanwhile health is looked at, to know what was up.

    Args:
        after: see `find_newest_known`; None: what is live now.

    Returns:
        Whether it was there already: it came after `after` and was not watched.

    Raises:
        ProviderUnavailable: none came within `timeout_s`.
        What `run_preflight` raises: afterwards it is too late.
    """
    seen = list_of_application(tools.deployments.history())
    run_preflight(tools, timeout_s + tools.policy.criteria.watch_s)
    last = seen[0].id if seen else ""
    if after and seen and _is_unwatched(tools, seen[0], after):
        age_s = tools.clock.now() - seen[0].created_at
        told = f"version {seen[0].main[:8]} went live {format_duration(age_s)} ago, and it is not watched"
        if age_s <= max(MEANWHILE_S, tools.policy.criteria.watch_s):
            tools.say(f"{told}: that is the next one")
            _remember_wait(tools, "")
            return True
        tools.say(f"{told}; `backout guard -e {tools.environment}` watches what is live")
    _remember_wait(tools, last)  # if this is interrupted, the same command typed again continues from here
    deadline = tools.clock.now() + timeout_s
    with closing(lives(tools, _LOOK_EVERY_S)) as found:
        for live in found:
            if live is not None and live.id != last:
                _remember_wait(tools, "")
                return False
            if tools.clock.now() >= deadline:
                break
    _remember_wait(tools, "")
    built = diagnose_failed_build(tools)  # Scenario 2: nothing came because nothing was built
    why = "" if built is None else f": the newest build failed ({built.title})"
    raise ProviderUnavailable(f"no new deployment within {timeout_s:g} s{why}", where=tools.environment)


def _is_unwatched(tools: Toolbox, live: Deployment, after: str) -> bool:
    """Whether what is live came after that deployment, and no guard of this journal watched it."""
    if live.id == after or is_made_by(live, RemarkKind.ROLLBACK):
        return False
    watches = (run for run in tools.runs.walk_runs(tools.environment) if not gave_way(tools.journal, run))
    plans = (run.plan for run in watches if run.plan.has(WatchStep))
    return all(plan.arguments(WatchStep).deployment != live.id for plan in plans)


def _remember_wait(tools: Toolbox, after: str) -> None:
    tools.checkpoints.save_checkpoint(tools.environment, _WAIT, {"after": after, "at": tools.clock.now()})


def lives(
    tools: Toolbox, every_s: float, wait: Callable[[float], None] | None = None, hints: Hints | None = None
) -> Generator[Deployment | None, None, None]:
    """Yield what decides about the traffic, again and again (None: no answer); looks are made in between.

    Args:
        wait: waits so many seconds, in place of the clock; may raise, which ends it.
        hints: tell when the history need not be asked, and when at once; everything else is looked at all the same.
    """
    wait = wait or tools.clock.sleep
    looks = Looks(tools, at_most_every_s=tools.policy.guard.probe_every_s)
    heartbeat, holds, asking = Heartbeat(tools), HoldWatch(tools), Asking(tools, every_s, hints)
    live, is_refused = None, False
    try:
        while True:
            heartbeat.beat()
            try:
                history = asking.read()
                if history is not None:
                    live, is_refused = next(iter(list_of_application(history)), None), False
                    holds.look(history)
                yield live
            except AuthError as error:  # its own looks, and the source, may come from elsewhere
                if not is_refused:
                    tools.say(f"the provider refuses the token ({error.what}), so new deployments are not seen")
                is_refused = True
                yield None
            except BackoutError:
                yield None
            remember(tools, live.main if live is not None else "", looks.collect())
            wait(every_s)
    finally:
        looks.close()


class Asking:
    """Asks the history when that is due: as often as the budget allows, or as the hints say.

    Args:
        every_s: how often it is asked at most, unless a hint comes.
    """

    def __init__(self, tools: Toolbox, every_s: float, hints: Hints | None) -> None:
        self._tools, self._every_s, self._hints = tools, every_s, hints
        self._history: tuple[Deployment, ...] | None = None
        self._ask_at = 0.0

    def read(self) -> tuple[Deployment, ...] | None:
        """Return the history, None while it is too early to ask; where hints tell that it is the same, that of before.

        Raises:
            BackoutError: there is no answer.
        """
        hints, history = self._hints, self._history
        is_hinted = hints is not None and hints.take()
        if not is_hinted:
            if history is not None and hints is not None and hints.holds():
                self._wait_turn()  # whoever asks again, because the list is away, keeps to the budget as well
                return history
            if self._tools.clock.now() < self._ask_at:
                return None
        try:
            self._history = self._tools.deployments.history()
        finally:
            self._wait_turn()
        if hints is not None:
            hints.note_history(self._history)
        return self._history

    def _wait_turn(self) -> None:
        self._ask_at = self._tools.clock.now() + self._tools.pace(self._every_s) - self._every_s
