"""Follow: wait for the next deployment, and meanwhile report when what is live begins to fail; nothing is changed here.

There was no recent deployment, so nothing says that an older version would do better: a person decides what to do.
"""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, cast

from backout.analysis.detector.changes import ChangeDetector, find_usual
from backout.analysis.history.remarks import is_made_by
from backout.analysis.statistics.baseline import Baseline
from backout.analysis.statistics.summary import summarize
from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.model.steps.guard import RampStep, WatchStep
from backout.ports import find_result
from backout.report.guard.change import format_title
from backout.runbook.guard.checkpoint import take_up
from backout.runbook.guard.guard import may_go_on
from backout.runbook.guard.next_deployment import lives
from backout.runbook.incident.tell import tell_change
from backout.runbook.safety.aside import gave_way

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from backout.analysis.detector.changes import Change, ChangesState
    from backout.model.deployment import Deployment
    from backout.model.guard.signals import Counts
    from backout.model.incident.incident import Event
    from backout.model.plan import Json
    from backout.runbook.toolbox import Toolbox
    from backout.runbook.worker.hints import Hints

FOLLOW_S = 5.0
"""How often `guard --follow` looks for another deployment; a watch begins at its deployment's time anyway."""
SAVE_S = 60
"""At most this much of the counts has to be read again after a crash."""
_CHECKPOINT = "changes"


def wait_for_unwatched(
    tools: Toolbox,
    notify: Callable[[Event], None] | None = None,
    wait: Callable[[float], None] | None = None,
    hints: Hints | None = None,
) -> None:
    """Return when what is live was watched by no guard of this journal and is no rollback, however long that takes.

    At once when there is something to continue: a rollback that met an error is not over, and nothing else watches it;
    after a step of a ramp that failed, what is live is watched anew. A run that another process holds is looked at time
    and again: whoever takes over from one that died is often here before the lease of its run has run out.

    Args:
        notify: sees the event of each change that was found meanwhile.
        wait, hints: see `lives`.
    """
    runs = tools.runs.runs(tools.environment)
    if runs and (may_go_on(runs[0]) or (runs[0].plan.kind is PlanKind.RAMP and runs[0].state is RunState.FAILED)):
        return
    unfinished = runs[0].id if runs and not runs[0].state.is_over else ""
    known = {
        run.plan.arguments(WatchStep).deployment
        for run in runs
        if run.plan.has(WatchStep) and run.state.is_over and not gave_way(tools.journal, run)
    }  # an interrupted watch is resumed, and one that gave way to a person is begun again
    # Steps up that this journal knows; one that may have been made, and whose watch never began, is not among them.
    over = (RunState.FAILED, RunState.ABORTED)
    steps = {run.id for run in runs if run.plan.kind is PlanKind.RAMP and run.state not in over}
    watch: ChangeWatch | None = None
    with closing(lives(tools, FOLLOW_S, wait, hints)) as found:
        for live in found:
            if live is not None:
                ours = is_made_by(live, RemarkKind.ROLLBACK) or _is_step(tools, live, steps)
                if live.id not in known and not ours:
                    return
                if watch is None or watch.deployment.id != live.id:
                    watch = ChangeWatch(tools, live, notify)
            if unfinished:
                run = tools.runs.find(unfinished)
                if run is not None and may_go_on(run):
                    return
                unfinished = "" if run is None or run.state.is_over else unfinished
            if watch is not None:
                watch.look()


def _is_step(tools: Toolbox, live: Deployment, steps: Container[str]) -> bool:
    """Whether one of these runs made the deployment, as a step of a ramp: not someone who copied its message."""
    remark = live.remark
    if remark is None or remark.kind is not RemarkKind.RAMP or remark.run not in steps:
        return False
    made = find_result(tools.runs, remark.run, RampStep)
    return made is None or made.deployment == live.id


class ChangeWatch:
    """Feeds the change detector with the counts of one deployment, and tells what it finds; it never acts.

    Its state is a checkpoint: the counts since the last one are read again, and lead to the same findings, each told
    and recorded once.
    """

    def __init__(self, tools: Toolbox, deployment: Deployment, notify: Callable[[Event], None] | None = None) -> None:
        self.deployment = deployment
        self._tools = tools
        self._notify = notify
        self._versions = {share.version for share in deployment.shares if share.percentage > 0}
        self._is_blind = False
        now = int(tools.clock.now())
        found = self._resume()
        if found is None:
            found = ChangeDetector(tools.policy, _find_baseline(tools, deployment)), now
        self._detector, self._read_until = found
        # A source may not reach back for days, and what happened then is not news.
        self._read_until = max(self._read_until, now - int(tools.policy.guard.baseline_s))
        self._saved_until = 0

    def look(self) -> None:
        """Take in the counts since the last look; tell what began or ended."""
        tools = self._tools
        if tools.traffic is None:
            return
        if not self._saved_until:
            self._save()  # at once: a guard that keeps dying has to know where it began to read
        try:
            page = tools.traffic.read(self._read_until, int(tools.clock.now()) + 1)
        except BackoutError as error:
            self._say_blind(str(error))
            return
        self._say_blind("")
        rows = [row for row in page.counts if row.second < page.complete_until and self._counts(row)]
        found = self._detector.add(rows)
        self._read_until = max(self._read_until, page.complete_until)
        for change in found:
            self._tell(change, estimates=page.sampled or tools.traffic.traits.sampled)
        if found or self._read_until - self._saved_until >= SAVE_S:
            self._save()

    def _counts(self, row: Counts) -> bool:
        traffic = self._tools.traffic
        return row.version in self._versions or (traffic is not None and not traffic.traits.has_version)

    def _tell(self, change: Change, *, estimates: bool) -> None:
        tools, deployment = self._tools, self.deployment
        kind = "change.began" if change.began else "change.ended"
        key = f"{deployment.id}:{kind}:{change.since}"
        tell_change(tools, change, deployment, estimates=estimates, key=key)
        data: dict[str, Json] = {
            "sentence": format_title(tools.environment, change, deployment),
            "cause": change.cause.value,
            "version": deployment.main,
            "deployment": deployment.id,
            "since": change.since,
            "at": change.at,
            "bad": change.bad,
            "requests": change.total,
            "share": change.share,
            "limit": change.limit,
            "log_evidence": change.log_evidence,
            "estimates": estimates,
        }
        event = tools.journal.note(tools.environment, kind, key, data, actor=tools.actor)
        if event is not None and self._notify is not None:
            self._notify(event)

    def _say_blind(self, why: str) -> None:
        if bool(why) is self._is_blind:
            return
        self._is_blind = bool(why)
        counts = "the source of counts"
        self._tools.say(
            f"{counts} does not answer, so changes are not seen: {why}" if why else f"{counts} answers again"
        )

    def _save(self) -> None:
        state: Json = {
            "deployment": self.deployment.id,
            "read_until": self._read_until,
            "detector": cast("Json", self._detector.state()),
        }
        self._tools.checkpoints.save_checkpoint(self._tools.environment, _CHECKPOINT, state)
        self._saved_until = self._read_until

    def _resume(self) -> tuple[ChangeDetector, int] | None:
        saved = self._tools.checkpoints.load_checkpoint(self._tools.environment, _CHECKPOINT)
        if not isinstance(saved, dict) or saved.get("deployment") != self.deployment.id:
            return None
        return take_up(saved, self._restore_detector)

    def _restore_detector(self, saved: Json) -> tuple[ChangeDetector, int] | None:
        assert isinstance(saved, dict)
        detector = ChangeDetector.from_state(self._tools.policy, cast("ChangesState", saved["detector"]))
        return None if detector is None else (detector, decode_values(saved["read_until"], int))


def _find_baseline(tools: Toolbox, live: Deployment) -> Baseline:
    """Return what is usual for the live version: what its newest watch kept of the version before and of itself."""
    nothing = Baseline(0.0, None, None, ())
    for run in tools.runs.runs(tools.environment):
        watch = run.plan.arguments(WatchStep) if run.plan.has(WatchStep) else None
        if watch is not None and watch.version == live.main:
            since, old, until = watch.since, watch.old, watch.since + watch.for_s
            if not old:
                return nothing
            before = tools.counts.load_counts(tools.environment, int(since - tools.policy.guard.baseline_s), int(since))
            own = tools.counts.load_counts(tools.environment, math.ceil(since), int(until))
            watched = summarize(own, live.main, until)
            return find_usual(tools.policy, summarize(before, old, since), watched)
    return nothing
