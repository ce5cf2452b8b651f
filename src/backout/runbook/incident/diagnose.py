"""Diagnose ("Identify Issues"): find the cause from the logs and everything around them; nothing is changed."""

from __future__ import annotations

import contextlib
import queue
import threading
from itertools import takewhile
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from backout.analysis.detector.otherwise import describe_failing, describe_otherwise
from backout.analysis.detector.slower import describe_slower
from backout.analysis.diagnosis.build import diagnose_build
from backout.analysis.diagnosis.diagnosis import diagnose
from backout.analysis.diagnosis.recent import keep_recent
from backout.analysis.diagnosis.signatures import Classifier
from backout.analysis.history.remarks import list_of_application
from backout.decoding import Undecodable, decode_own, decode_values
from backout.errors import BackoutError
from backout.model.incident.diagnosis import Diagnosis, RollbackAdvice, Scenario, Surroundings
from backout.model.incident.events import EventCounts, InvocationCounts, LogPage
from backout.model.plan import PlanKind
from backout.model.steps.guard import WatchStep
from backout.runbook.guard.held import list_open_shifts
from backout.runbook.incident.context import find_changes, look_around
from backout.runbook.observe import add_details, observe

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.model.guard.signals import Counts
    from backout.model.plan import Json
    from backout.model.situation import Situation
    from backout.ports import StepContext
    from backout.runbook.toolbox import Toolbox

PATIENCE_S: Final = 8.0
"""How long a rollback waits for its diagnosis; working sources take a tenth of a second."""
BEFORE_S: Final = 3600.0
"""How long before the deployment the logs and counts are read: what was usual."""


def diagnose_now(
    tools: Toolbox, *, version: str = "", situation: Situation | None = None, since: float | None = None
) -> Diagnosis:
    """Return what is wrong with a version (default: the live one), judged against the one before it.

    A source that does not answer is left out, and reported.

    Args:
        since: Unix seconds from which the version's logs and counts are read, but not from before it went live: what it
            did in an earlier life is not what it does now. None: since it went live.

    Raises:
        Unmeasured: nothing was ever deployed.
        AuthError, ProviderUnavailable: as the platform's ports.
    """
    situation = situation or observe(tools)
    history = list_of_application(situation.history) or situation.history
    live = next((each for each in history if not version or each.main == version), history[0])
    before = _find_version_before(history, live)
    names = [live.main] if before is None else [live.main, before]
    situation = add_details(tools, situation, names)
    catalogue = tools.incident.catalogue()
    classifier = Classifier(catalogue)
    found = look_around(tools, situation, classifier)
    old = None if before is None else situation.version(before)
    around = Surroundings(
        old=before,
        new=live.main,
        deployed_at=live.created_at,
        changed=find_changes(old, situation.version(live.main), situation.schema),
        clues=tuple(found.clues),
        clean=tuple(found.clean),
        environment=tools.environment,
    )
    events, rows, missing = _read_events(tools, live.created_at - BEFORE_S)
    began, returned = _find_serving_since(history, live)
    since = max(since or began, began)
    # The list of deployments is short: the counts know of an earlier life that is no longer listed.
    returned = returned or not rows or any(row.version == live.main and row.second < int(began) for row in rows)
    if since > began or returned:
        events = keep_recent(live.main, events, _read_events(tools, since)[0])
        rows = tuple(row for row in rows if row.version != live.main or row.second >= since)
    answer = diagnose(events, around, catalogue, classifier)
    notes = (*answer.notes, *missing, *found.notes)
    answer = replace(answer, notes=notes, criticality=_find_criticality(tools, answer.service))
    counted = (describe_otherwise(rows, old=before, new=live.main), describe_slower(rows, old=before, new=live.main))
    told = tuple(each for each in (*_list_held_shifts(tools, live.main), *counted) if each)
    if not (told or answer.is_known or answer.fresh):  # an application that logs nothing, or lines without a level
        told = tuple(filter(None, (describe_failing(rows, old=before, new=live.main),)))
    return _add_told(tools.environment, answer, tuple(dict.fromkeys(told)))


def _add_told(environment: str, answer: Diagnosis, told: tuple[str, ...]) -> Diagnosis:
    """Return the diagnosis with the findings from the counts; if no log says anything, those are the diagnosis."""
    if not told:
        return answer
    if answer.is_known or answer.fresh:
        return replace(answer, notes=(*answer.notes, *told))
    title, *others = told
    return replace(
        answer,
        scenario=Scenario.RUNTIME_ERRORS,
        title=title,
        notes=(*answer.notes, *others),
        is_new=True,
        rollback=RollbackAdvice.CODE_OK,
        next=(f"backout rollback -e {environment} -m WHY", f"backout status -e {environment}"),
    )


def _list_held_shifts(tools: Toolbox, version: str) -> tuple[str, ...]:
    """Return the shifts because of which the newest watch of a version did not call it healthy."""
    watches = (run for run in tools.runs.walk_runs(tools.environment) if run.plan.kind is PlanKind.GUARD)
    newest = next((run for run in watches if run.plan.arguments(WatchStep).version == version), None)
    if newest is None:
        return ()
    try:
        return tuple(shift.sentence for shift in list_open_shifts(tools, newest))
    except Undecodable:
        return ()


def _find_criticality(tools: Toolbox, service: str | None) -> str | None:
    critical = tools.policy.services.get(service or "")
    return None if critical is None else str(critical)


def listen(tools: Toolbox, for_s: float) -> None:
    """Listen to a live source for this long; one that does not connect is reported later, when it is read."""
    assert tools.traffic is not None
    until = tools.clock.now() + for_s
    with contextlib.suppress(BackoutError):
        while tools.clock.now() < until:
            tools.traffic.read(int(until - for_s), int(tools.clock.now()))
            tools.clock.sleep(min(1.0, for_s))


def diagnose_failed_build(tools: Toolbox) -> Diagnosis | None:
    """Return why the newest build failed (Scenario 2), or None when it did not, or no pipeline can be asked."""
    if tools.incident.builds is None:
        return None
    try:
        run = tools.incident.builds.latest()
        job = run.failed_job if run is not None else None
        if run is None or job is None:
            return None
        log = tools.incident.builds.log(job.id)
    except BackoutError as error:
        tools.say(f"the pipeline could not be asked: {error.what}")
        return None
    catalogue = tools.incident.catalogue()
    step = f"{job.name}: {job.failed_step}" if job.failed_step else job.name
    found = diagnose_build(log, catalogue, Classifier(catalogue), step=step, environment=tools.environment)
    return (
        None if found is None else replace(found, notes=(*found.notes, f"{run.name} of {run.commit[:12]}: {run.url}"))
    )


def diagnose_once(tools: Toolbox, context: StepContext, version: str) -> Diagnosis | None:
    """Return the diagnosis that this step recorded, or make and record one; None when it could not be made.

    A diagnosis never stops the run that it is made for: a source that fails is left out.
    """
    last = context.last_progress() or {}
    if last.get("diagnosis") is not None:
        with contextlib.suppress(Undecodable):  # another backout wrote it: it is recreated
            return decode_values(last["diagnosis"], Diagnosis)
    try:
        found = _diagnose_in_time(tools, version)
        if found is None:
            tools.say(f"no diagnosis within {PATIENCE_S:g} s; the report will try again")
            return None
        record = _mask_json(tools, decode_own(msgspec.json.encode(found).decode()))
        masked = decode_values(record, Diagnosis)
    except BackoutError as error:
        tools.say(f"no diagnosis: {error.what}")
        return None
    except Exception as error:  # noqa: BLE001 - a mistake of ours about some text must not cost the rollback
        tools.say(f"no diagnosis, by a mistake of backout's own ({type(error).__name__})")
        return None
    context.progress({"diagnosis": record})
    return masked


def _diagnose_in_time(tools: Toolbox, version: str) -> Diagnosis | None:
    """Return the diagnosis, or None when it takes too long: what waits for it is a rollback."""
    if not tools.guard.in_background:
        return diagnose_now(tools, version=version)
    answers: queue.SimpleQueue[Diagnosis | Exception] = queue.SimpleQueue()

    def look() -> None:
        try:
            answers.put(diagnose_now(tools, version=version))
        except Exception as error:  # noqa: BLE001 - a mistake of ours about some text must not cost the rollback
            answers.put(error)

    threading.Thread(target=look, name="diagnose", daemon=True).start()
    try:
        found = answers.get(timeout=PATIENCE_S)
    except queue.Empty:
        return None
    if isinstance(found, Exception):
        raise found
    return found


def _mask_json(tools: Toolbox, value: Json) -> Json:
    """Return the same with each text masked by itself: masking JSON as a whole could remove a closing quote."""
    if isinstance(value, str):
        return tools.incident.redact(value)
    if isinstance(value, dict):
        return {tools.incident.redact(name): _mask_json(tools, each) for name, each in value.items()}
    return [_mask_json(tools, each) for each in value] if isinstance(value, list) else value


def _find_serving_since(history: tuple[Deployment, ...], live: Deployment) -> tuple[float, bool]:
    """Return (Unix seconds since when a version has served without a break, whether it also served before that)."""
    earlier = history[history.index(live) + 1 :]
    unbroken = list(takewhile(lambda each: each.serves(live.main), earlier))
    began = unbroken[-1].created_at if unbroken else live.created_at
    return began, any(each.serves(live.main) for each in earlier[len(unbroken) :])


def _find_version_before(history: tuple[Deployment, ...], live: Deployment) -> str | None:
    """Return the version that served before this deployment, or beside it."""
    beside = next((share.version for share in live.shares if share.version != live.main and share.percentage > 0), None)
    at = history.index(live)
    return beside or next((each.main for each in history[at + 1 :] if each.main != live.main), None)


def _read_events(tools: Toolbox, since: float) -> tuple[EventCounts, tuple[Counts, ...], tuple[str, ...]]:
    """Return the events counted in the logs since then, the counts of all versions, and what could not be read.

    If the logs keep only failures, the counts add the rest.
    """
    until = tools.clock.now()
    missing = []
    page = LogPage(EventCounts())
    rows: tuple[Counts, ...] = ()
    if tools.incident.logs is None:
        missing.append("no source of logs is set up")
    else:
        try:
            page = tools.incident.logs.read(since, until)
        except BackoutError as error:
            missing.append(f"the logs could not be read: {error.what}")
    if tools.traffic is None:
        missing.append("no source of counts is set up: how many invocations were well is not known")
    else:
        try:
            rows = tools.traffic.read(int(since), int(until) + 1).counts
        except BackoutError as error:
            missing.append(f"the counts could not be read ({error.what}): how many were well is not known")
    events = page.counts if page.complete or not rows else _add_silent(page, rows, since)
    return events, rows, tuple(missing)


def _add_silent(page: LogPage, rows: tuple[Counts, ...], since: float) -> EventCounts:
    """Return the page with the invocations that logged nothing added from the source of counts."""
    cut = int(since if page.since is None else page.since)
    by_version: dict[str, InvocationCounts] = {}
    for row in rows:
        if row.second >= cut or not row.errors:  # before the logs begin, a second without errors has no text missing
            known = by_version.get(row.version, InvocationCounts())
            by_version[row.version] = InvocationCounts(
                known.invocations + row.requests, known.errors + row.errors, known.canceled + row.canceled
            )
    return replace(page.counts, by_version=by_version)
