"""The sentences that a page begins with: what happened, what was done about it, what is left to do; pure.

No id stands where a name can: a run is called by what it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.decoding import Undecodable, parse_moment
from backout.escaping import shorten
from backout.model.action_request import Act
from backout.model.guard.verdict import Verdict
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.steps.rollback import ReadBackStep
from backout.report.guard.run_end import describe_end
from backout.report.times import format_clock, format_day, format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.action_request import ActionRequest
    from backout.model.guard.verdict import Decision
    from backout.model.incident.case import Case
    from backout.model.incident.diagnosis import Diagnosis
    from backout.model.incident.incident import Event, Incident, Run
    from backout.report.guard.run_end import RunEnd
    from backout.web.answers import Answer

_SHORT: Final = 8
_NAMES: Final = {
    PlanKind.RAMP: "Ramp",
    PlanKind.FORWARD: "Roll-forward",
    PlanKind.RECOVER: "Recovery of data",
    PlanKind.DRILL: "Drill",
    PlanKind.BACKUP: "Check of backups",
    PlanKind.SECRETS: "Setting of secrets",
    PlanKind.JOBS: "Stop of jobs",
}
_ACTS: Final = {
    Act.PLAN: "Plan of a rollback",
    Act.DIAGNOSE: "Search for the cause",
    Act.REPORT: "May guard act alone?",
    Act.WATCH: "Look for a new deployment",
    Act.ROLLBACK: "Rollback",
    Act.HOLD: "Hold",
    Act.UNHOLD: "Lifting of the hold",
    Act.RESUME: "Resumption of a run",
    Act.UNDO: "Undo of a recovery",
}
_FOUND: Final[Mapping[str, str]] = {
    Verdict.REGRESSED: "found bad",
    Verdict.INCONCLUSIVE: "undecided",
    Verdict.UNMEASURED: "not measured",
}
"""What a watch found, in the place of its state: that it is done says nothing of that."""
_HALTED: Final = {
    RunState.WAITING: "waits for an approval",
    RunState.PAUSED: "is paused",
    RunState.BLOCKED: "is blocked",
    RunState.INTERRUPTED: "was interrupted",
}


def name_run(run: Run) -> str:
    """Return what a run is called: by what it does and with which version."""
    kind = run.plan.kind
    if kind is PlanKind.GUARD:
        return f"Watch of version {_find_version(run, 'watch')}".strip()
    if kind is PlanKind.ROLLBACK:
        return f"Rollback to version {_find_version(run, 'activate')}".strip()
    return _NAMES[kind]


def name_person(actor: str) -> str:
    """Return who did something, without the server or the worker that did it for a person.

    >>> name_person("eve (by backout serve, root@vm)"), name_person("eve (by root@vm)"), name_person("root@vm")
    ('eve', 'eve', 'root@vm')
    """
    return actor.rpartition(" (by ")[0] or actor


def name_request(request: ActionRequest) -> str:
    """Return what a request is called."""
    return _ACTS[request.act]


def tell_outcome(answer: Answer, run: Run | None, end: RunEnd | None) -> str:
    """Return what came of a request that was done, in a sentence or two; "" where its answer is shown itself.

    Args:
        answer: what the worker's command printed.
        run: the run that the request began, or is about, None without one; `end`: how it ended, as far as it has.
    """
    if answer.held is not None:
        return _tell_hold(answer)
    if run is None or end is None:
        return ""
    how = tell_end(run, end) or name_state(run, end)
    why = f" {_end_sentence(end.why[:1].upper() + end.why[1:])}" if end.why else ""
    return f"{name_run(run)}: {_end_sentence(how)}{why}"


def _tell_hold(answer: Answer) -> str:
    where = "on every machine" if answer.everywhere else "on the worker's machine only"
    if not answer.held:
        return f"The hold is lifted {where}: guard acts again as it is set up."
    try:
        until = f"until {format_minute(parse_moment(answer.until or ''))}"
    except Undecodable:
        until = "until a time that is not known here"
    return f"Held {where} {until}: guard goes on watching and telling, and changes nothing by itself."


def tell_what_happened(case: Case) -> str:
    """Return what went wrong, in one sentence or two."""
    incident = case.incident
    if incident is None:
        return f"{case.record.opened_by} opened this incident."
    if incident.bad_version and incident.decision is not None:
        went = f"Version {incident.bad_version[:_SHORT]} went live {_format_moment(incident.opened_at)}"
        found = ""
        if incident.detected_at is not None:
            found = f" Found after {format_duration(incident.detected_at - incident.opened_at)}:"
        cause = f" The cause: {_tell_cause(incident.diagnosis)}" if incident.diagnosis is not None else ""
        return f"{went}.{found} {_tell_decision(incident.decision)}{cause}"
    return _end_sentence(case.title[:1].upper() + case.title[1:])


def _tell_decision(decision: Decision) -> str:
    """Return what the decision rests on, what it hits most first; the odds of the evidence are in the chart."""
    reason = decision.reason.partition("; evidence")[0]
    streams = sorted(decision.evidence, key=lambda each: -each.log_evidence)
    route = next((each.sentence for each in streams if "requests to " in each.sentence and each.log_evidence > 0), "")
    return _end_sentence(f"{route} ({reason} in all)" if route and route != reason else reason)


def _tell_cause(found: Diagnosis) -> str:
    quoted = next((f" (“{shorten(each.text)}”)" for each in found.evidence), "")
    return f"{found.title}{quoted}."


def name_state(run: Run, end: RunEnd) -> str:
    """Return the state of a run in words: of one that is over, what it found, where that is not good.

    One that was approved and that nobody has had go on was not interrupted.
    """
    if _is_approved_only(run):
        return "approved, not begun"
    if run.state is not RunState.DONE:
        return str(run.state)
    if end.accepted and end.settled:
        return "accepted"
    return "not well" if end.verified is False else _FOUND.get(end.verdict, str(run.state))


def _is_approved_only(run: Run) -> bool:
    return run.state is RunState.INTERRUPTED and run.approval is not None and not run.steps_done


def tell_end(run: Run, end: RunEnd) -> str:
    """Return the end of a run in a few words; *held* is on the pages what a person's hold does, and nothing else."""
    return describe_end(run, end, held="a person has to decide")


def tell_what_was_done(case: Case, run: Run | None, end: RunEnd | None, failure: str) -> str:
    """Return what guard or a person did about it.

    Args:
        run: the newest one of the incident, None without one; `end`: how it ended, as far as it has.
        failure: why a step of it failed, "" when none did.
    """
    if run is None or end is None:
        return "Nothing was done about it by backout."
    name, who = name_run(run), "guard" if run.plan.cause else name_person(run.actor) or "someone"
    if run.plan.kind is PlanKind.GUARD:
        return _tell_watch(run, end)
    if said := _tell_unfinished(run, name, who, failure):
        return said
    done = f"{name}: {who} had it done"
    if run.approval is not None:
        done = f"{name}: {who} asked for it, and {name_person(run.approval.by)} approved it; it is done"
    if run.plan.kind is PlanKind.ROLLBACK:
        done = f"{'Guard' if run.plan.cause else who} rolled back to version {_find_version(run, 'activate')}"
    done += _describe_after(case.incident)
    if end.verified is None and run.plan.kind is PlanKind.RECOVER:
        return f"{done}. What it compared afterwards stands at its steps below."
    if end.verified is None:
        return f"{done}. Whether all is well was not measured."
    if end.verified:
        return f"{done}. It is verified: {_end_sentence(end.why)}"
    return f"{done}. It is NOT well: {_end_sentence(end.why or 'the criteria were not met')}"


def tell_given_up(run: Run, events: Sequence[Event]) -> str:
    """Return who gave a run up, why, and what it had done; "" for one that was not given up."""
    if run.state is not RunState.ABORTED:
        return ""
    asked = [event for event in events if event.kind == "run.asked" and event.data.get("what") == "abort"]
    by = f" by {name_person(asked[-1].actor)}" if asked else ""
    why = str(asked[-1].data.get("reason") or "") if asked else ""
    done = f"{run.steps_done} of its {len(run.plan.steps)} steps were done"
    if not any(event.kind == "step.start" for event in events):
        done = "none of its steps had begun, so it changed nothing"
    return f"Given up{by}: {done}." + (f" Why: {_end_sentence(why)}" if why else "")


def tell_switched(run: Run) -> str:
    """Return that a rollback has made its version live, as read back, while what that led to is watched; else ""."""
    back = next((number for number, step in enumerate(run.plan.steps) if step.does(ReadBackStep)), None)
    if run.plan.kind is not PlanKind.ROLLBACK or back is None or run.steps_done <= back:
        return ""
    version = _find_version(run, "activate")
    return f"Version {version} is live, as read back. Whether all is well with it is being watched."


def _tell_unfinished(run: Run, name: str, who: str, failure: str) -> str:
    """Return where a run stands that has not ended well, "" for one that has."""
    count = f"{run.steps_done} of {len(run.plan.steps)} steps"
    if _is_approved_only(run):
        return f"{name}: it is approved, and has not begun. Asked for by {who}."
    if run.state in _HALTED:
        return f"{name}: it {_HALTED[run.state]}, {count} are done. Asked for by {who}."
    if run.state is RunState.RUNNING:
        return f"{name}: {who} is at it, {count} are done. {tell_switched(run)}".strip()
    if run.state is RunState.FAILED:
        return f"{name}: it failed. {_end_sentence(failure)}".strip()
    return f"{name}: it was given up after {count}." if run.state is RunState.ABORTED else ""


def tell_what_is_next(case: Case, run: Run | None, end: RunEnd | None) -> str:
    """Return what is left to a person."""
    if run is not None and _is_approved_only(run):
        return "Let it go on, before the approval expires, or give it up."
    if run is not None and not run.state.is_over:
        return {
            RunState.WAITING: "Read the plan and approve it, or give it up.",
            RunState.PAUSED: "Let it go on, or give it up.",
            RunState.BLOCKED: "Mend what blocks it and let it go on, or give it up.",
            RunState.INTERRUPTED: "Let it go on, or give it up.",
        }.get(run.state, "Nothing now: look how it goes on.")
    if case.record.resolved_at is not None:
        mend = "Mend the cause before it is deployed again, and write" if _has_bad_version(case) else "Write"
        return f"Nothing is urgent. {mend} down what you know."
    if run is not None and end is not None and end.verified is False:
        return "Look at what is not well below, and decide whether to go back further."
    if run is not None and run.plan.kind is PlanKind.ROLLBACK and run.state is RunState.DONE:
        return "Look whether all is well, and say that it is over."
    return "Decide: go back to the last stable version, or find the cause. When it is over, press “It is over” below."


def _has_bad_version(case: Case) -> bool:
    return case.incident is not None and bool(case.incident.bad_version)


def _tell_watch(run: Run, end: RunEnd) -> str:
    name = name_run(run)
    if not run.state.is_over:
        return f"{name}: guard is at it."
    if end.action == "rollback":
        return "Guard decided to roll back."
    if end.accepted:
        return "It was accepted as intended."
    why = f" {_end_sentence(end.why[:1].upper() + end.why[1:])}" if end.why else ""
    return f"Guard changed nothing.{why}"


def _find_version(run: Run, action: str) -> str:
    """Return the version of the last step of that kind, shortened, "" without one."""
    for step in reversed(run.plan.steps):
        if step.action == action:
            return str(step.args.get("version") or "")[:_SHORT]
    return ""


def _describe_after(incident: Incident | None) -> str:
    if incident is None or incident.acted_at is None or not incident.bad_version:
        return ""
    return f", {format_duration(incident.acted_at - incident.opened_at)} after the deployment"


def format_minute(at: float) -> str:
    """Return a moment to the minute, with its day."""
    return f"{format_day(at)} {format_clock(at)[:5]} UTC"


def _format_moment(at: float) -> str:
    return f"on {format_day(at)} at {format_clock(at)} UTC"


def _end_sentence(text: str) -> str:
    """Return a text with one full stop at its end, "" for none.

    >>> _end_sentence("it failed"), _end_sentence("It failed."), _end_sentence("")
    ('it failed.', 'It failed.', '')
    """
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
