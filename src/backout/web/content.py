"""What each page shows, as values for its template: read from the journal, and from what a worker keeps beside it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, UsageError
from backout.model.action_request import Act, RequestState, name_asker
from backout.model.guard.verdict import Verdict
from backout.model.incident.incident import RunState
from backout.model.login import Permission
from backout.model.plan import PlanKind
from backout.report.guard.run_end import describe_end
from backout.report.incident.case import list_impact
from backout.runbook.incident.case import read_case
from backout.runbook.incident.ends import read_end
from backout.runbook.incident.records import list_incidents, tell_incident
from backout.runbook.serve.action_requests import describe_state, find_request, list_requests
from backout.web.answers import read_answer
from backout.web.sentences import name_request, name_run, tell_what_happened, tell_what_is_next, tell_what_was_done

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.action_request import ActionRequest
    from backout.model.incident.case import Case
    from backout.model.incident.incident import Event, Run
    from backout.model.incident.record import IncidentRecord
    from backout.model.login import Login
    from backout.model.plan import Json
    from backout.report.guard.run_end import RunEnd
    from backout.runbook.serve.overviews import EnvironmentView
    from backout.wiring.serve import Site

Content = dict[str, object]
MOST_RUNS: Final = 20
MOST_INCIDENTS: Final = 10
MOST_REQUESTS: Final = 5
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
_REQUEST_TONES: Final = {
    RequestState.WAITING: "note",
    RequestState.TAKEN: "note",
    RequestState.DONE: "good",
    RequestState.FAILED: "bad",
    RequestState.EXPIRED: "warn",
    RequestState.LOST: "warn",
}
_URGENT, _UNREAD, _UNMEASURED, _OPEN, _WELL = range(5)


class Card:
    """One environment on the first page and at the head of its own.

    Attributes:
        urgency: 0 wrong, 1 not read, 2 not measured, 3 held, unfinished or an incident, 4 well.
        needs: what a person has to know, one sentence each; () where nothing needs one.
    """

    def __init__(self, view: EnvironmentView, now: float) -> None:
        self.view, self.now = view, now
        self.name, self.protected, self.worker = view.name, view.protected, view.worker
        self.record: Mapping[str, Json] = view.status.record if view.status is not None else {}
        self.read_at = view.status.read_at if view.status is not None else None
        self.is_stale = view.is_stale(now)
        self.failed = str(self.record.get("message", "")) if "error" in self.record else ""
        self.urgency, self.needs = self._judge()

    def _judge(self) -> tuple[int, tuple[str, ...]]:
        view, record = self.view, self.record
        if view.status is None:
            return _UNREAD, ("no worker has read it yet: what is live is not known here",)
        if self.failed:
            return _UNREAD, (f"the worker cannot read it: {self.failed}",)
        wrong = [*_list_texts(record.get("troubles"))]
        if record.get("closed"):
            wrong.insert(0, "the application is closed for a recovery")
        unmeasured = [*_list_texts(record.get("unmeasured"))]
        open_ = [f"held: {self.hold}"] if self.hold else []
        if view.incident is not None:
            open_.append("an incident is open")
        if view.run is not None and self.halted:
            open_.append(f"{name_run(view.run)}: {view.run.state}")
        stale = [] if not self.is_stale else ["what is shown is old: no worker has read it since"]
        needs = (*wrong, *stale, *unmeasured, *open_)
        if wrong:
            return _URGENT, needs
        if stale:
            return _UNREAD, needs
        return (_UNMEASURED if unmeasured else _OPEN if open_ else _WELL), needs

    @property
    def halted(self) -> bool:
        """Whether its newest run waits for a person."""
        run = self.view.run
        return run is not None and run.state in (RunState.WAITING, RunState.BLOCKED, RunState.PAUSED)

    @property
    def hold(self) -> str:
        """Why it is held, "" where it is not."""
        return str(_get_table(self.record.get("hold")).get("why") or "")

    @property
    def tone(self) -> str:
        """How it is marked, beside its word."""
        return ("bad", "warn", "warn", "note", "good")[self.urgency]

    @property
    def word(self) -> str:
        """How it is, in a word or two."""
        return ("needs you", "not known", "not measured", "open", "well")[self.urgency]

    @property
    def live(self) -> str:
        """The live version, "" where it is not known or not the same everywhere."""
        return str(self.record.get("live_version") or "")

    @property
    def mark(self) -> tuple[str, str]:
        """The mark of the live version, (tone, word)."""
        if self.record.get("quarantined"):
            return "bad", "quarantined"
        return ("good", "stable") if self.record.get("stable") else ("dim", "not marked yet")

    @property
    def health(self) -> tuple[str, str]:
        """The health endpoint, (tone, word)."""
        health = _get_table(self.record.get("health"))
        if not health:
            return "dim", "not set up" if self.record.get("health", 0) is None else "not known"
        services = _get_table(health.get("services"))
        down = [name for name, each in services.items() if _get_table(each).get("state") == "down"]
        if down:
            return "bad", f"{', '.join(down)} down"
        reach, overall = str(health.get("reach") or ""), str(health.get("overall") or "")
        return ("good", "ok") if reach == "answered" and overall in ("", "ok", "None") else ("warn", overall or reach)

    @property
    def failed_share(self) -> tuple[str, str]:
        """The share of failed requests of the last minutes, (tone, words)."""
        traffic = _get_table(self.record.get("traffic"))
        rate, requests = traffic.get("error_rate"), traffic.get("requests")
        if not traffic or traffic.get("problem"):
            return "warn" if traffic else "dim", "not measured" if traffic else "not set up"
        if not isinstance(rate, int | float):
            return "dim", "no request"
        is_bad = any("requests failed" in each for each in _list_texts(self.record.get("troubles")))
        return "bad" if is_bad else "good", f"{100 * rate:.2g} % of {requests:,}"

    @property
    def drill(self) -> Mapping[str, Json]:
        """The newest drill that passed: `name`, `passed_at`; empty for none."""
        return _get_table(self.record.get("drill"))


def show_environments(site: Site, login: Login) -> Content:
    """Return the first page: every environment that a login may see, what needs a person first."""
    now = site.clock.now()
    views = site.read_views(login.choose(site.environments))
    cards = sorted((Card(view, now) for view in views), key=lambda card: card.urgency)
    return {"cards": cards, "all_well": all(card.urgency == _WELL for card in cards), "now": now}


def show_environment(site: Site, login: Login, name: str) -> Content:
    """Return the page of one environment: how it is, what may be done, its runs, incidents and requests."""
    now = site.clock.now()
    (view,) = site.read_views((name,))
    known = site.journal.runs(name)
    incidents = list_incidents(site.journal, site.journal, name)
    requests = list_requests(site.journal, name)
    return {
        "card": Card(view, now),
        "runs": [make_run_row(site, run) for run in known[:MOST_RUNS]],
        "more_runs": max(0, len(known) - MOST_RUNS),
        "incidents": [_make_incident_row(site, each) for each in incidents[:MOST_INCIDENTS]],
        "more_incidents": max(0, len(incidents) - MOST_INCIDENTS),
        "requests": [_make_request_row(each, now) for each in reversed(requests[-MOST_REQUESTS:])],
        "may_act": login.may(Permission.OPERATOR, name),
        "now": now,
    }


def make_run_row(site: Site, run: Run) -> Content:
    """Return one run of a list."""
    end = read_end(site.journal, site.journal, run)
    return {"run": run, "name": name_run(run), "tone": _choose_tone(run, end), "end": describe_end(run, end)}


def _make_incident_row(site: Site, found: IncidentRecord) -> Content:
    told = None if found.title else tell_incident(site.journal, site.journal, found)
    return {"record": found, "title": found.title or (told.title if told is not None else "incident")}


def _choose_tone(run: Run, end: RunEnd) -> str:
    """Return how a run is marked: one that ended well may have found something bad."""
    if run.state is RunState.DONE and (end.verdict == Verdict.REGRESSED or end.verified is False):
        return "bad"
    if run.state is RunState.DONE and end.verdict in (Verdict.INCONCLUSIVE, Verdict.UNMEASURED):
        return "warn"
    return _TONES[run.state]


def _make_request_row(request: ActionRequest, now: float) -> Content:
    state = describe_state(request, now)
    return {"request": request, "name": name_request(request), "state": state, "tone": _REQUEST_TONES[state]}


def show_request(site: Site, login: Login, name: str, number: int) -> Content:
    """Return the page of one request. Raises UsageError: there is none."""
    request, now = find_request(site.journal, name, number), site.clock.now()
    if request is None:
        raise UsageError(f"there is no request {number}", where=name)
    found = request.answer
    answer = read_answer(found)
    return {
        **_make_request_row(request, now),
        "environment": name,
        "protected": site.choose(name).protected,
        "plan": answer.plan,
        "target": _find_target(found),
        "run_id": str(found.get("run_id") or "") or _find_run_of(site, request),
        "answer": answer,
        "may_act": login.may(Permission.OPERATOR, name),
        "can_go_on": request.act is Act.PLAN and request.state is RequestState.DONE,
        "now": now,
    }


def _find_run_of(site: Site, request: ActionRequest) -> str:
    """Return the run that a request is about, or that it has begun since it was taken, "" where there is none yet."""
    if request.act in (Act.RESUME, Act.UNDO):
        return request.target
    if request.act is not Act.ROLLBACK or request.taken_at is None:
        return ""
    named = name_asker(request)  # somebody else's rollback, or guard's, may have begun meanwhile
    runs = (run for run in site.journal.runs(request.environment) if run.started_at >= request.taken_at)
    return next((run.id for run in runs if run.plan.kind is PlanKind.ROLLBACK and run.plan.why.endswith(named)), "")


def _find_target(answer: Mapping[str, Json]) -> str:
    """Return the version that a plan of a rollback makes live, "" where it names none."""
    steps = _get_table(answer.get("plan")).get("steps")
    for step in reversed(steps if isinstance(steps, list) else []):
        if _get_table(step).get("action") == "activate":
            return str(_get_table(_get_table(step).get("args")).get("version") or "")
    return str(answer.get("target") or "")


def show_run(site: Site, login: Login, name: str, run_id: str) -> Content:
    """Return the page of a run, with the incident that it belongs to. Raises UsageError: there is none."""
    run = site.find_run(name, run_id)
    if run is None:
        raise UsageError(f"there is no run {run_id!r}", where=name)
    incident = next((each for each in list_incidents(site.journal, site.journal, name) if run.id in each.runs), None)
    content = {**_show_case(site, login, name, incident), **_show_steps(site, login, name, run)}
    return {**content, "place": f"run/{name}/{run.id}"}


def show_incident(site: Site, login: Login, name: str, incident_id: str) -> Content:
    """Return the page of an incident, with its newest run. Raises UsageError: there is none."""
    known = list_incidents(site.journal, site.journal, name)
    incident = next((each for each in known if each.id == incident_id or incident_id in each.runs), None)
    if incident is None:
        raise UsageError(f"there is no incident {incident_id!r}", where=name)
    run = site.find_run(name, incident.runs[-1]) if incident.runs else None
    content = _show_case(site, login, name, incident)
    return content if run is None else {**content, **_show_steps(site, login, name, run)}


def _show_case(site: Site, login: Login, name: str, incident: IncidentRecord | None) -> Content:
    content: Content = {
        "environment": name,
        "protected": site.choose(name).protected,
        "run": None,
        "case": None,
        "runs": [],
        "impact": [],
        "summary": [],
        "can": [],
        "watches": False,
        "place": "" if incident is None else f"incident/{name}/{incident.id}",
        "may_act": login.may(Permission.OPERATOR, name),
        "may_approve": login.may(Permission.APPROVER, name),
        "now": site.clock.now(),
    }
    if incident is None:
        return content
    case: Case = read_case(site.open_records(name, login.name), incident)
    runs = [run for each in incident.runs if (run := site.find_run(name, each)) is not None]
    return content | {
        "case": case,
        "impact": list_impact(case.impact),
        "runs": [make_run_row(site, run) for run in runs],
        "summary": _summarize(site, case, runs[-1] if runs else None),
    }


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
    events = [event for event in site.journal.events(run=run.id) if event.kind != "step.progress"]
    return {
        "run": run,
        "name": name_run(run),
        "tone": _choose_tone(run, end),
        "end": end,
        "end_words": describe_end(run, end),
        "steps": _list_steps(run, events),
        "watches": run.plan.kind is PlanKind.GUARD or bool(run.plan.cause),
        "evidence": _list_evidence(site, run),
        "can": _list_asks(login, name, run),
        "needs_second": site.needs_second_person(name),
    }


def _list_steps(run: Run, events: list[Event]) -> list[Content]:
    """Return each step of the plan with where it stands."""
    found: list[Content] = [
        {"step": step, "state": "to do", "tone": "dim", "began": None, "ended": None, "text": ""}
        for step in run.plan.steps
    ]
    for event in events:
        if event.step is None or event.step >= len(found):
            continue
        step = found[event.step]
        if event.kind == "step.start":
            step.update(state="under way", tone="note", began=event.at)
        elif event.kind == "step.ok":
            step.update(state="done", tone="good", ended=event.at)
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


def _list_texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _get_table(value: object) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
