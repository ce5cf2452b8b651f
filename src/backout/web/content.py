"""What each page shows, as values for its template: read from the journal, and from what a worker keeps beside it."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, cast

from backout.errors import BackoutError, UsageError
from backout.model.action_request import Act, RequestState, name_asker
from backout.model.guard.policy import Mode
from backout.model.guard.verdict import Verdict
from backout.model.incident.incident import RunState
from backout.model.incident.record import NOTED
from backout.model.login import Permission
from backout.model.plan import PlanKind
from backout.model.steps.verification import VerifyStep
from backout.plan.rescue_notes import list_row_notes
from backout.report.incident.case import list_impact
from backout.runbook.incident.case import read_case
from backout.runbook.incident.ends import judge_end, read_end
from backout.runbook.incident.records import tell_incident
from backout.runbook.recovery.previews import read_preview
from backout.runbook.serve.action_requests import list_requests
from backout.runbook.serve.overviews import read_kept_status
from backout.web.answers import read_answer
from backout.web.cards import WELL, Card, describe_hold
from backout.web.findings import describe_preview, list_findings, tell_preview
from backout.web.request_rows import find_overtaken, find_target, make_request_row, make_use_key
from backout.web.sentences import (
    name_run,
    name_state,
    tell_end,
    tell_given_up,
    tell_outcome,
    tell_switched,
    tell_what_happened,
    tell_what_is_next,
    tell_what_was_done,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.action_request import ActionRequest
    from backout.model.incident.case import Case
    from backout.model.incident.incident import Event, Run
    from backout.model.incident.record import IncidentRecord
    from backout.model.login import Login
    from backout.model.plan import Json, Step
    from backout.report.guard.run_end import RunEnd
    from backout.wiring.serve import Site

Content = dict[str, object]
MOST_RUNS: Final = 20
MOST_INCIDENTS: Final = 10
MOST_REQUESTS: Final = 5
_MOST_PROOF: Final = 2
_TONES: Final = {
    RunState.RUNNING: "note",
    RunState.INTERRUPTED: "warn",
    RunState.BLOCKED: "warn",
    RunState.PAUSED: "warn",
    RunState.WAITING: "warn",
    RunState.DONE: "good",
    RunState.FAILED: "bad",
    RunState.ABORTED: "dim",
}


def show_environments(site: Site, login: Login) -> Content:
    """Return the first page: every environment that a login may see, what needs a person first."""
    now = site.clock.now()
    views = site.read_views(login.choose(site.environments))
    cards = sorted((Card(view, now) for view in views), key=lambda card: card.urgency)
    return {"cards": cards, "all_well": all(card.urgency == WELL for card in cards), "now": now}


def show_environment(site: Site, login: Login, name: str) -> Content:
    """Return the page of one environment: how it is, what may be done, its runs, incidents and requests."""
    now = site.clock.now()
    (view,) = site.read_views((name,))
    newest = islice(site.journal.walk_history(name), MOST_RUNS)
    incidents = site.incidents.list_incidents(name)
    requests = list_requests(site.journal, name)
    return {
        "card": Card(view, now),
        "runs": [make_run_row(site, run, results.get) for run, results in newest],
        "more_runs": max(0, site.journal.count_runs(name) - MOST_RUNS),
        "incidents": [_make_incident_row(site, each) for each in incidents[:MOST_INCIDENTS]],
        "more_incidents": max(0, len(incidents) - MOST_INCIDENTS),
        "requests": [make_request_row(each, now, requests) for each in reversed(requests[-MOST_REQUESTS:])],
        "may_act": login.may(Permission.OPERATOR, name),
        "only_observes": site.choose(name).policy.guard.mode is Mode.OBSERVE,
        "now": now,
    }


def make_run_row(site: Site, run: Run, get_result: Callable[[str], Json] | None = None) -> Content:
    """Return one run of a list.

    Args:
        get_result: see `judge_end`, None: it is read.
    """
    journal = site.journal
    end = read_end(journal, journal, run) if get_result is None else judge_end(journal, run, get_result)
    row = {"run": run, "name": name_run(run), "state": name_state(run, end), "tone": _choose_tone(run, end)}
    return {**row, "end": tell_end(run, end)}


def _make_incident_row(site: Site, found: IncidentRecord) -> Content:
    told = None if found.title else tell_incident(site.journal, site.journal, found)
    return {"record": found, "title": found.title or (told.title if told is not None else "incident")}


def _choose_tone(run: Run, end: RunEnd) -> str:
    """Return how a run is marked: one that ended well may have found something bad."""
    if run.state is RunState.DONE and end.accepted and end.settled:
        return "good"
    if run.state is RunState.DONE and (end.verdict == Verdict.REGRESSED or end.verified is False):
        return "bad"
    if run.state is RunState.DONE and end.verdict in (Verdict.INCONCLUSIVE, Verdict.UNMEASURED):
        return "warn"
    return _TONES[run.state]


def show_request(site: Site, login: Login, name: str, number: int) -> Content:
    """Return the page of one request. Raises UsageError: there is none."""
    site.note_viewed((name,))
    now, known = site.clock.now(), list_requests(site.journal, name)
    request = next((each for each in known if each.id == number), None)
    if request is None:
        raise UsageError(f"there is no request {number}", where=name)
    found = request.answer
    answer = read_answer(found)
    run_id = _find_run_of(site, request)
    run = site.find_run(name, run_id) if run_id else None
    found_in = _find_incident_of(site, request, run_id)
    end = None if run is None else read_end(site.journal, site.journal, run)
    steps = [] if run is None else _list_steps(run, _read_events(site, run))
    target = find_target(found)
    return {
        **make_request_row(request, now, known),
        **({"name": name_run(run)} if run is not None and request.act is Act.RESUME else {}),
        "outcome": tell_outcome(answer, run, end),
        "steps": steps,
        "proof": _list_proof(steps),
        "switched": "" if run is None or end is None or run.state.is_over else tell_switched(run),
        "happened": _tell_what_is_known(site, login, request, found_in),
        "outcome_tone": "good" if run is None or end is None else _choose_tone(run, end),
        "environment": name,
        "protected": site.choose(name).protected,
        "plan": answer.plan,
        "overtaken": None if answer.already else find_overtaken(site, request, target),
        "target": target,
        "run_id": run_id,
        "incident": None if found_in is None else _make_incident_row(site, found_in),
        "use_key": make_use_key(request.id),
        "answer": answer,
        "may_act": login.may(Permission.OPERATOR, name),
        "can_go_on": request.act is Act.PLAN and request.state is RequestState.DONE,
        "now": now,
    }


def _list_proof(steps: list[Content]) -> list[str]:
    """Return what shows that a run did what it was to: of a verification the main criteria, of others all findings."""
    found = [(cast("Step", each["step"]), cast("list[str]", each["found"])) for each in steps]
    verified = [lines for step, lines in found if step.does(VerifyStep) and lines]
    return verified[-1][1 : 1 + _MOST_PROOF] if verified else [line for _, lines in found for line in lines]


def _find_run_of(site: Site, request: ActionRequest) -> str:
    """Return the run that a request is about, or that it has begun since it was taken, "" where there is none yet."""
    if request.act in (Act.RESUME, Act.UNDO):
        return request.target
    if request.act is not Act.ROLLBACK or request.taken_at is None:
        return ""
    named = name_asker(request)  # somebody else's rollback, or guard's, may have begun meanwhile
    runs = (run for run in site.journal.walk_runs(request.environment) if run.started_at >= request.taken_at)
    return next((run.id for run in runs if run.plan.kind is PlanKind.ROLLBACK and run.plan.why.endswith(named)), "")


def _tell_what_is_known(site: Site, login: Login, request: ActionRequest, found: IncidentRecord | None) -> list[str]:
    """Return beside a search for the cause what guard found of it: since when, and which requests fail."""
    if request.act is not Act.DIAGNOSE or found is None:
        return []
    run = site.find_run(request.environment, found.runs[-1]) if found.runs else None
    happened = tell_what_happened(read_case(site.open_records(request.environment, login.name), found))
    evidence = [] if run is None else _list_evidence(site, run)
    return [happened, *(each for each in evidence if each not in happened)]


def _find_incident_of(site: Site, request: ActionRequest, run_id: str) -> IncidentRecord | None:
    """Return the incident of a request's run, or that was open when it was asked for; None: there is none."""
    if request.act in (Act.HOLD, Act.UNHOLD):
        return None  # it is about the environment, whatever is open there
    known = site.incidents.list_incidents(request.environment)
    of_run = (each for each in known if run_id and run_id in each.runs)
    then = (
        each
        for each in known
        if each.opened_at <= request.at and (each.resolved_at is None or each.resolved_at >= request.at)
    )
    return next(of_run, None) or next(then, None)


def show_run(site: Site, login: Login, name: str, run_id: str) -> Content:
    """Return the page of a run, with the incident that it belongs to. Raises UsageError: there is none."""
    run = site.find_run(name, run_id)
    if run is None:
        raise UsageError(f"there is no run {run_id!r}", where=name)
    incident = next((each for each in site.incidents.list_incidents(name) if run.id in each.runs), None)
    content = {**_show_case(site, login, name, incident), **_show_steps(site, login, name, run)}
    return {**content, "place": f"run/{name}/{run.id}"}


def show_incident(site: Site, login: Login, name: str, incident_id: str) -> Content:
    """Return the page of an incident, with its newest run. Raises UsageError: there is none."""
    known = site.incidents.list_incidents(name)
    incident = next((each for each in known if each.id == incident_id or incident_id in each.runs), None)
    if incident is None:
        raise UsageError(f"there is no incident {incident_id!r}", where=name)
    run = site.find_run(name, incident.runs[-1]) if incident.runs else None
    content = _show_case(site, login, name, incident)
    return content if run is None else {**content, **_show_steps(site, login, name, run)}


def _show_case(site: Site, login: Login, name: str, incident: IncidentRecord | None) -> Content:
    site.note_viewed((name,))  # whoever goes on from here to the environment finds it as it is
    content: Content = {
        "environment": name,
        "protected": site.choose(name).protected,
        "run": None,
        "case": None,
        "runs": [],
        "notes": [],
        "impact": [],
        "summary": [],
        "can": [],
        "watches": False,
        "place": "" if incident is None else f"incident/{name}/{incident.id}",
        "may_act": login.may(Permission.OPERATOR, name),
        "may_approve": login.may(Permission.APPROVER, name),
        "hold": _read_hold(site, name),
        "given_up": "",
        "now": site.clock.now(),
    }
    if incident is None:
        return content
    case: Case = read_case(site.open_records(name, login.name), incident)
    runs = [run for each in incident.runs if (run := site.find_run(name, each)) is not None]
    return content | {
        "case": case,
        "impact": list_impact(case.impact, is_over=incident.resolved_at is not None),
        "notes": [each for each in incident.remarks if each.kind == NOTED],
        "runs": [make_run_row(site, run) for run in runs],
        "counted_until": _find_counted_until(incident, runs),
        "summary": _summarize(site, case, runs[-1] if runs else None),
    }


def _find_counted_until(incident: IncidentRecord, runs: list[Run]) -> float | None:
    """Return when the counting of an open incident's requests ended, None: it goes on, or the incident is over."""
    ends = [run.ended_at for run in runs]
    over = [at for at in ends if at is not None]
    return max(over) if incident.resolved_at is None and over and len(over) == len(ends) else None


def _read_hold(site: Site, name: str) -> str:
    """Return why an environment is held, as a worker read it last; "" where it is not, or nobody has read it."""
    kept = read_kept_status(site.journal, name)
    return "" if kept is None else describe_hold(kept.record)


def _summarize(site: Site, case: Case, run: Run | None) -> list[str]:
    """Return what happened, what was done about it, and what is next."""
    end = None if run is None else read_end(site.journal, site.journal, run)
    failed = () if run is None else site.journal.events(run=run.id, kind="step.failed")
    failure = next((str(event.data.get("text") or "") for event in reversed([*failed])), "")
    return [
        tell_what_happened(case),
        tell_what_was_done(case, run, end, failure),
        tell_what_is_next(case, run, end),
    ]


def _show_steps(site: Site, login: Login, name: str, run: Run) -> Content:
    end = read_end(site.journal, site.journal, run)
    return {
        "run": run,
        "name": name_run(run),
        "state": name_state(run, end),
        "tone": _choose_tone(run, end),
        "end": end,
        "end_words": tell_end(run, end),
        "steps": _list_steps(run, events := _read_events(site, run)),
        "given_up": tell_given_up(run, events),
        "asked_why": next((str(each.data.get("reason") or "") for each in events if each.kind == "run.submitted"), ""),
        "watches": run.plan.kind in (PlanKind.GUARD, PlanKind.ROLLBACK) or bool(run.plan.cause),
        "evidence": _list_evidence(site, run),
        "can": _list_asks(login, name, run),
        "needs_second": site.needs_second_person(name),
        **_show_preview(site, run),
    }


def _show_preview(site: Site, run: Run) -> Content:
    """Return what a rescue that waits for its approval would write, as far as it was counted."""
    found = read_preview(site.journal, run) if run.state is RunState.WAITING else None
    report = None if found is None else found.report
    newer = {list_row_notes(conflicts)[0] for conflicts in ("live", "side")}
    return {
        "preview": found,
        "preview_title": "" if report is None else tell_preview(report),
        "preview_notes": [] if report is None else describe_preview(report),
        "notes_to_approve": run.plan.notes if report is None else [each for each in run.plan.notes if each in newer],
    }


def _read_events(site: Site, run: Run) -> list[Event]:
    return [event for event in site.journal.events(run=run.id) if event.kind != "step.progress"]


def _list_steps(run: Run, events: list[Event]) -> list[Content]:
    """Return each step of the plan with where it stands."""
    found: list[Content] = [
        {"step": step, "state": "to do", "tone": "dim", "began": None, "ended": None, "text": "", "found": []}
        for step in run.plan.steps
    ]
    for event in events:
        if event.step is None or event.step >= len(found):
            continue
        step = found[event.step]
        if event.kind == "step.start":
            step.update(state="under way", tone="note", began=event.at)
        elif event.kind == "step.ok":
            step.update(state="done", tone="good", ended=event.at, found=list_findings(event.data.get("result")))
        elif event.kind == "step.failed":
            step.update(state="failed", tone="bad", ended=event.at, text=str(event.data.get("text") or ""))
    return found


def _list_evidence(site: Site, run: Run) -> list[str]:
    """Return what the watch behind a run found, a sentence each; none while it has not decided."""
    from backout.runbook.hindsight.explain import explain

    with suppress(BackoutError):
        found = explain(site.journal, site.journal, site.choose(run.environment).policy, run.id)
        streams = sorted(found.decision.evidence, key=lambda each: -each.log_evidence)
        reason = found.decision.reason
        known = dict.fromkeys(each.sentence for each in streams if each.log_evidence > 0)
        told = [reason] if reason != run.plan.why else []
        return [*told, *(each for each in known if each not in reason)]
    return []


def _list_asks(login: Login, name: str, run: Run) -> list[str]:
    """Return what a login may ask of a run as it stands: approve, pause, resume, abort, undo."""
    if not login.may(Permission.OPERATOR, name):
        return []
    if run.state.is_over:
        is_recovery = any(step.action == "recover_report" for step in run.plan.steps)
        return ["undo"] if is_recovery and run.state is RunState.DONE else []
    can = ["abort"]
    if run.state is RunState.WAITING and login.may(Permission.APPROVER, name):
        can.insert(0, "approve")
    if run.pause is not None or run.state in (RunState.INTERRUPTED, RunState.PAUSED):
        can.insert(0, "resume")
    elif run.state is RunState.RUNNING:
        can.insert(0, "pause")
    return can
