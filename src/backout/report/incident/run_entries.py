"""Timeline entries from the journal's events, about runs and otherwise, one for each thing that happened; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.escaping import fold_blanks
from backout.model.incident.incident import RunState
from backout.model.incident.timeline import Entry, EntryKind
from backout.model.plan import PlanKind
from backout.report.guard.acceptances import parse_acceptance
from backout.report.guard.run_end import VOID, find_end
from backout.report.times import format_duration
from backout.report.verified import VERIFIED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from backout.model.incident.incident import Event, Run
    from backout.model.plan import Json
    from backout.report.guard.run_end import RunEnd

    Said = tuple[EntryKind, str]

_ID = 8
_STOPPED = ("run.interrupted", "step.interrupted", "step.failed", "run.blocked", "run.paused", "run.waiting")


class RunTeller:
    """Takes the events in order; `runs` are all those that the events may be about."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = {run.id: run for run in runs}
        self._submitted: dict[str, Event] = {}
        self._results: dict[str, dict[str, Json]] = {}
        self._last: dict[str, str] = {}

    def hear(self, event: Event) -> Iterator[Entry]:
        """Yield the entries of one event."""
        run = self._runs.get(event.run)
        if run is None:
            yield from _list_noted(event)
            return
        if event.kind == "step.ok" and event.step is not None and event.step < len(run.plan.steps):
            results = self._results.setdefault(run.id, {})
            results[run.plan.steps[event.step].action] = event.data.get("result")
        before, self._last[run.id] = self._last.get(run.id), event.kind
        if event.kind == "run.driven" and before == "run.asked":
            return  # a process that asks a run to end takes it for that moment
        told = _TOLD.get(event.kind)
        kind, text = told(self, run, event) if told is not None else (EntryKind.RUN, "")
        if text:
            yield Entry(event.at, kind, text, run.id, event.actor)

    def left_alone(self) -> Iterator[Entry]:
        """Yield the last sign of life of runs that no process drives any more and that did not say so themselves."""
        for run in self._runs.values():
            if run.state is RunState.INTERRUPTED and self._last.get(run.id, "") not in _STOPPED:
                at = run.alive_at if run.alive_at is not None else run.started_at
                yield Entry(at, EntryKind.RUN, f"{run.id} was left in the middle: its process is gone", run.id)

    def tell_submitted(self, run: Run, event: Event) -> Said:
        """An automatic run begins by itself; what was typed is told when a process takes it."""
        self._submitted[run.id] = event
        if run.plan.cause and run.plan.kind is not PlanKind.GUARD:
            return (
                EntryKind.RUN,
                f"guard begins to {_describe_action(run)} ({run.id})",
            )  # its reason is how its watch ended
        return EntryKind.RUN, ""

    def tell_driven(self, run: Run, event: Event) -> Said:
        """A process takes a run, for the first time or again."""
        typed = str(event.data.get("command") or "backout")
        submitted = self._submitted.pop(run.id, None)
        if submitted is None:
            return EntryKind.COMMAND, f"`{typed}` goes on with {run.id}"
        if run.plan.kind is PlanKind.GUARD:
            return EntryKind.WATCH, f"guard begins to {_describe_action(run)} ({run.id}, `{typed}`)"
        if run.plan.cause:
            return EntryKind.RUN, ""
        why = fold_blanks(str(submitted.data.get("reason") or run.plan.why))
        return EntryKind.COMMAND, f"`{typed}`, to {_describe_action(run)} ({run.id}): {why}"

    def tell_asked(self, run: Run, event: Event) -> Said:
        """A person wants a run to end, or decides about a step of which the outcome is not known."""
        what, why = str(event.data.get("what")), fold_blanks(str(event.data.get("reason") or ""))
        said = {
            "abort": f"{run.id} is to end",
            "pause": f"{run.id} is to pause at its next step boundary",
            "resume": f"{run.id} is to go on",
            "approve": f"the plan of {run.id} is approved",
            "break-glass": f"{run.id} is to go on WITHOUT THE APPROVAL that it needs",
            "decide:done": f"the open step of {run.id} is said to have happened",
            "decide:retry": f"the open step of {run.id} is to be done again",
        }.get(what, f"{what} is asked of {run.id}")
        return EntryKind.COMMAND, f"{said}: {why}" if why else said

    def tell_interrupted(self, run: Run, event: Event) -> Said:
        """Ctrl-C, or the end of the machine."""
        place = event.step if event.step is not None else event.data.get("before_step")
        at = f" at step {place + 1} of {len(run.plan.steps)}" if isinstance(place, int) else ""
        return EntryKind.RUN, f"{run.id} is interrupted{at}"

    def tell_paused(self, run: Run, event: Event) -> Said:
        """Its driver has obeyed a request to pause."""
        place = event.data.get("before_step")
        at = f" at step {place + 1} of {len(run.plan.steps)}" if isinstance(place, int) else ""
        return EntryKind.RUN, f"{run.id} is paused{at}"

    def tell_waiting(self, run: Run, event: Event) -> Said:  # noqa: ARG002 one signature for all
        """Its plan has to be approved before it changes anything."""
        return EntryKind.RUN, f"{run.id} waits for an approval"

    def tell_failed(self, run: Run, event: Event) -> Said:
        """A step met an error; the run stays, to be resumed, or has ended."""
        title = run.plan.steps[event.step].title if event.step is not None else "a step"
        return EntryKind.RUN, f"{run.id} stops ({title}): {fold_blanks(str(event.data.get('text') or ''))}"

    def tell_blocked(self, run: Run, event: Event) -> Said:
        """It is not known whether a step happened."""
        return EntryKind.RUN, f"{run.id} waits for a person to decide: {fold_blanks(str(event.data.get('why') or ''))}"

    def tell_aborted(self, run: Run, event: Event) -> Said:  # noqa: ARG002 one signature for all
        """The run was given up."""
        return EntryKind.RUN, f"{run.id} is given up"

    def tell_ended(self, run: Run, event: Event) -> Said:  # noqa: ARG002 one signature for all
        """A watch ends with its verdict, any other run with its verification."""
        end = find_end(run, self._results.get(run.id, {}))
        why = fold_blanks(end.why)
        if run.plan.kind is PlanKind.GUARD:
            return EntryKind.VERDICT, _describe_verdict(run, end)
        if not any(step.action.startswith("verify") for step in run.plan.steps):
            return EntryKind.RUN, f"{run.id} is done"
        return EntryKind.RUN, f"{run.id} is done, {VERIFIED[end.verified]}" + (f": {why}" if why else "")


_TOLD: Mapping[str, Callable[[RunTeller, Run, Event], Said]] = {
    "run.submitted": RunTeller.tell_submitted,
    "run.driven": RunTeller.tell_driven,
    "run.asked": RunTeller.tell_asked,
    "run.interrupted": RunTeller.tell_interrupted,
    "step.interrupted": RunTeller.tell_interrupted,
    "run.paused": RunTeller.tell_paused,
    "run.waiting": RunTeller.tell_waiting,
    "step.failed": RunTeller.tell_failed,
    "run.blocked": RunTeller.tell_blocked,
    "run.aborted": RunTeller.tell_aborted,
    "run.ok": RunTeller.tell_ended,
}
"""A run that failed says so with the step that did."""


def _describe_action(run: Run) -> str:
    """Return what a run does, after "to"."""
    if run.plan.kind is PlanKind.GUARD:
        watch, mode = _get_arguments(run, "watch"), _get_arguments(run, "conclude").get("mode")
        for_s = watch.get("for_s")
        span = f" for {format_duration(for_s)}" if isinstance(for_s, (int, float)) else ""
        return f"watch version {_shorten(watch.get('version'))}{span}" + (f", mode {mode}" if mode else "")
    if run.plan.kind is PlanKind.ROLLBACK:
        args = _get_arguments(run, "activate")
        return f"go back from version {_shorten(args.get('leaving'))} to {_shorten(args.get('version'))}"
    if run.plan.kind is PlanKind.RAMP and run.plan.steps:
        return run.plan.steps[0].title
    if run.plan.kind is PlanKind.SECRETS:
        names = _get_arguments(run, "push_secrets").get("secrets")
        return f"set {', '.join(names)}" if isinstance(names, dict) else "set secrets"
    if run.plan.kind is PlanKind.FORWARD:
        return "roll forward"
    words = {PlanKind.RECOVER: "restore", PlanKind.BACKUP: "back up", PlanKind.DRILL: "drill"}
    return f"{words.get(run.plan.kind, run.plan.kind)} ({run.plan.why})"


def _get_arguments(run: Run, action: str) -> Mapping[str, Json]:
    """Return the arguments of a step, nothing where a plan of another version has none."""
    return next((step.args for step in reversed(run.plan.steps) if step.action == action), {})


def _shorten(version: Json) -> str:
    return str(version or "?")[:_ID]


def _describe_verdict(run: Run, end: RunEnd) -> str:
    did = {
        "stable": "marked stable",
        "rollback": "rolled back",
        "push_secret": "secrets are set",
        "ramp": "it gets more traffic",
        "accept": "accepted by policy",
        "refused": "the rollback is refused",
        "hold": "guard only observes" if end.rule == "observe" else "guard holds",
    }.get(end.action, "")
    if end.verdict == VOID:
        return f"{run.id} ends void: {fold_blanks(end.why) or 'another deployment took its place'}"
    kept = f" (rule {end.rule})" if end.rule and end.rule != "observe" else ""
    reason, why = fold_blanks(end.reason), fold_blanks(end.why)
    if why.startswith(reason):
        reason, why = why, ""
    more = f"; {why}" if why and end.rule != "observe" else ""
    said = f"{run.id} ends {end.verdict or 'without a verdict'}" + (f", {did}{kept}" if did else "")
    return f"{said}: {reason}{more}" if reason else said


def _list_noted(event: Event) -> Iterator[Entry]:
    """Yield what was recorded beside the runs."""
    data = event.data
    if event.kind in ("change.began", "change.ended"):
        yield Entry(event.at, EntryKind.CHANGE, fold_blanks(str(data.get("sentence"))), by=event.actor)
        return
    accepted = parse_acceptance(event)
    if accepted is not None:
        watch = f" ({accepted.run})" if accepted.run else ""
        said = f"shift {accepted.shift} of version {_shorten(accepted.version)} is accepted as intended{watch}"
        yield Entry(event.at, EntryKind.COMMAND, f"{said}: {accepted.why}", accepted.run, accepted.by)
        return
    words = _NOTES.get(event.kind)
    if words is not None:
        told = {key: ", ".join(map(str, each)) if isinstance(each, list) else str(each) for key, each in data.items()}
        text = words.format_map(_Known(told))
        yield Entry(event.at, EntryKind.NOTE, fold_blanks(text), by=event.actor)


class _Known(dict[str, str]):
    """Values of a note; one that an earlier version did not write appears as a question mark."""

    def __missing__(self, key: str) -> str:
        return "?"


_NOTES = {
    "database.point": "restore point {name} ({why})",
    "recovery.point": "recovery point {name}",
    "database.swapped": "the database was replaced by a restored one",
    "database.rescued": "damaged rows were put back",
    "database.released": "{kept} was removed for good",
    "database.dump.restored": "dump {dump} was restored: {why}",
    "database.branch.created": "branch {name} was created: {why}",
    "database.branch.finalizing": "branch {name} is to be put in the live one's place, which stays as {kept}: {why}",
    "database.branch.finalized": "branch {name} was finalized: {why}",
    "database.branch.broke_glass": "WITHOUT THE APPROVAL that it needs (break-glass): {does}: {why}",
    "database.branch.deleted": "branch {name} was deleted: {why}",
    "database.branch.swapped": "the database was replaced by a restored branch",
    "database.unsigned.accepted": "backups that are not signed were accepted: {names}",
    "preflight.allowed": "a deployment was let through although {check} is not in order ({gap}): {why}",
    "preflight.fixes": "a deployment was let through as the fix of {incident}; missing: {gaps}",
    "proof.failed": "version {version} did not answer well at 0 % of the traffic ({run}): {why}",
    "rescue.previewed": "what {run} would write, for whoever approves it: {state}",
    "restore.typed": "the target of {run} was typed: {target}",
    "migration.applied": "migration {migration} was applied",
    "migration.begin": "migrations are to be applied ({pending}): {reason}",
    "migration.failed": "a migration failed: {why}",
    "database.backup.proved": "backup {backup} was restored and read: {rows} rows",
    "database.backup.proof_failed": "backup {backup} could not be restored as a proof: {why}",
    "incident.opened": "incident {id} was opened: {title}",
    "incident.noted": "incident {id}: {text}",
    "incident.updated": "incident {id}, told customers: {text}",
    "incident.acknowledged": "incident {id} was acknowledged",
    "incident.resolved": "incident {id} was resolved: {text}",
    "incident.action": "incident {id}, action item {action} ({kind}): {text}",
    "incident.filed": "incident {id}, action item {action} is {url}",
    "wal.unprotected": "the database is UNPROTECTED: {why}",
    "wal.protected": "the database is protected again: {why}",
    "wal.promise_lost": "commits are not waited for any more: {why}",
    "wal.promise_kept": "commits are waited for again",
    "fence.opened": "the fence of {run} was opened by hand: {why}",
    "recover.began": "the application was closed for a recovery ({run})",
    "recover.lifting": "the recovery was given up, before anything was overwritten: {why}",
    "recover.lifted": "what the recovery had stopped goes on again ({run})",
    "recover.opened": "the application is open again ({run})",
}
