"""Diagnose ("Identify Issues"): what caused it, from the logs and from everything around them; it changes nothing."""

from __future__ import annotations

import contextlib
import queue
import threading
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Final

import msgspec

from backout.analysis.diagnosis import diagnose
from backout.analysis.diagnosis_build import diagnose_build
from backout.analysis.otherwise import otherwise
from backout.analysis.recent import with_only
from backout.analysis.remarks import plain_history
from backout.analysis.signatures import Classifier
from backout.analysis.slower import slower
from backout.decoding import Undecodable, decode_own, decode_values
from backout.errors import BackoutError
from backout.model.diagnosis import Diagnosis, RollbackAdvice, Scenario, Surroundings
from backout.model.events import EventCounts, InvocationCounts, LogPage
from backout.model.plan import PlanKind
from backout.runbook.clues import changed, look_around
from backout.runbook.held import open_shifts
from backout.runbook.observe import observe, with_details

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.model.plan import Json
    from backout.model.signals import Counts
    from backout.model.situation import Situation
    from backout.ports import StepContext
    from backout.runbook.toolbox import Toolbox

PATIENCE_S: Final = 8.0
"""How long a rollback waits for its diagnosis; sources that answer take a tenth of a second."""
BEFORE_S: Final = 3600.0
"""How long before the deployment the logs and counts are read: what was usual."""


def diagnose_now(
    tools: Toolbox, *, version: str = "", situation: Situation | None = None, since: float | None = None
) -> Diagnosis:
    """Return what is wrong with a version (default: the live one), judged against the one before it.

    A source that does not answer is left out, and said.

    Args:
        since: Unix seconds from when on the version's logs and counts are read, at the earliest since it is live: what
            it did when it was live before, and something else between, is not what it does now. None: since it is live.

    Raises:
        Unmeasured: nothing was ever deployed. AuthError, ProviderUnavailable: as the platform's ports.
    """
    situation = situation or observe(tools)
    history = plain_history(situation.history)
    live = next((each for each in history if not version or each.main == version), history[0])
    before = _before(history, live)
    names = [live.main] if before is None else [live.main, before]
    situation = with_details(tools, situation, names)
    catalogue = tools.catalogue()
    classifier = Classifier(catalogue)
    found = look_around(tools, situation, classifier)
    old = None if before is None else situation.version(before)
    around = Surroundings(
        old=before,
        new=live.main,
        deployed_at=live.created_at,
        changed=changed(old, situation.version(live.main), situation.schema),
        clues=tuple(found.clues),
        clean=tuple(found.clean),
        environment=tools.environment,
    )
    events, rows, missing = _events(tools, live.created_at - BEFORE_S)
    began, returned = _lived(history, live)
    since = max(since or began, began)
    # The list of deployments is short: the counts know of an earlier life that has left it.
    returned = returned or not rows or any(row.version == live.main and row.second < int(began) for row in rows)
    if since > began or returned:
        events = with_only(live.main, events, _events(tools, since)[0])
        rows = tuple(row for row in rows if row.version != live.main or row.second >= since)
    answer = diagnose(events, around, catalogue, classifier)
    notes = (*answer.notes, *missing, *found.notes)
    answer = replace(answer, notes=notes, criticality=_criticality(tools, answer.service))
    counted = (otherwise(rows, old=before, new=live.main), slower(rows, old=before, new=live.main))
    told = tuple(each for each in (*_held_for(tools, live.main), *counted) if each)
    return _with(tools.environment, answer, tuple(dict.fromkeys(told)))


def _with(environment: str, answer: Diagnosis, told: tuple[str, ...]) -> Diagnosis:
    """Return the diagnosis with what the counts say; where no log says anything, that is the diagnosis."""
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


def _held_for(tools: Toolbox, version: str) -> tuple[str, ...]:
    """Return the shifts for which the newest watch of a version did not call it healthy."""
    watches = (run for run in tools.runs.runs(tools.environment) if run.plan.kind is PlanKind.GUARD)
    newest = next((run for run in watches if run.plan.step("watch").args["version"] == version), None)
    if newest is None:
        return ()
    try:
        return tuple(shift.sentence for shift in open_shifts(tools, newest))
    except Undecodable:
        return ()


def _criticality(tools: Toolbox, service: str | None) -> str | None:
    critical = tools.policy.services.get(service or "")
    return None if critical is None else str(critical)


def listen(tools: Toolbox, for_s: float) -> None:
    """Take in what a live source tells for so long; one that does not connect is said later, by reading it."""
    assert tools.traffic is not None  # noqa: S101 - asked by whoever calls
    until = tools.clock.now() + for_s
    with contextlib.suppress(BackoutError):
        while tools.clock.now() < until:
            tools.traffic.read(int(until - for_s), int(tools.clock.now()))
            tools.clock.sleep(min(1.0, for_s))


def failed_build(tools: Toolbox) -> Diagnosis | None:
    """Return why the newest build failed (Scenario 2), or None when it did not, or no pipeline can be asked."""
    if tools.builds is None:
        return None
    try:
        run = tools.builds.latest()
        job = run.failed_job if run is not None else None
        if run is None or job is None:
            return None
        log = tools.builds.log(job.id)
    except BackoutError as error:
        tools.say(f"the pipeline could not be asked: {error.what}")
        return None
    catalogue = tools.catalogue()
    step = f"{job.name}: {job.failed_step}" if job.failed_step else job.name
    found = diagnose_build(log, catalogue, Classifier(catalogue), step=step, environment=tools.environment)
    return (
        None if found is None else replace(found, notes=(*found.notes, f"{run.name} of {run.commit[:12]}: {run.url}"))
    )


def recorded(tools: Toolbox, context: StepContext, version: str) -> Diagnosis | None:
    """Return the diagnosis that this step recorded, or make and record it; None when it could not be made.

    A diagnosis never stops what it is made for: a source that fails is left out.
    """
    last = context.last_progress() or {}
    if last.get("diagnosis") is not None:
        with contextlib.suppress(Undecodable):  # another backout wrote it: it is made anew
            return decode_values(last["diagnosis"], Diagnosis)
    try:
        found = _within(tools, version)
        if found is None:
            tools.say(f"no diagnosis within {PATIENCE_S:g} s; the report will try again")
            return None
        record = _masked(tools, decode_own(msgspec.json.encode(found).decode()))
        masked = decode_values(record, Diagnosis)
    except BackoutError as error:
        tools.say(f"no diagnosis: {error.what}")
        return None
    except Exception as error:  # noqa: BLE001 - a mistake of ours about some text must not cost the rollback
        tools.say(f"no diagnosis, by a mistake of backout's own ({type(error).__name__})")
        return None
    context.progress({"diagnosis": record})
    return masked


def _within(tools: Toolbox, version: str) -> Diagnosis | None:
    """Return the diagnosis, or None when it takes too long: what waits for it is a rollback."""
    if not tools.in_background:
        return diagnose_now(tools, version=version)
    answers: queue.SimpleQueue[Diagnosis | Exception] = queue.SimpleQueue()

    def look() -> None:
        try:
            answers.put(diagnose_now(tools, version=version))
        except Exception as error:  # noqa: BLE001 - raised again where somebody waits for it
            answers.put(error)

    threading.Thread(target=look, name="diagnose", daemon=True).start()
    try:
        found = answers.get(timeout=PATIENCE_S)
    except queue.Empty:
        return None
    if isinstance(found, Exception):
        raise found
    return found


def _masked(tools: Toolbox, value: Json) -> Json:
    """Return the same with each text masked by itself: a mask over JSON as a whole may take a closing quote with it."""
    if isinstance(value, str):
        return tools.redact(value)
    if isinstance(value, dict):
        return {tools.redact(name): _masked(tools, each) for name, each in value.items()}
    return [_masked(tools, each) for each in value] if isinstance(value, list) else value


def _lived(history: tuple[Deployment, ...], live: Deployment) -> tuple[float, bool]:
    """Return (Unix seconds since when a version serves without a break, whether it served before that as well)."""
    earlier = history[history.index(live) + 1 :]
    unbroken = list(takewhile(lambda each: each.serves(live.main), earlier))
    began = unbroken[-1].created_at if unbroken else live.created_at
    return began, any(each.serves(live.main) for each in earlier[len(unbroken) :])


def _before(history: tuple[Deployment, ...], live: Deployment) -> str | None:
    """Return the version that served before this deployment, or beside it."""
    beside = next((share.version for share in live.shares if share.version != live.main and share.percentage > 0), None)
    at = history.index(live)
    return beside or next((each.main for each in history[at + 1 :] if each.main != live.main), None)


def _events(tools: Toolbox, since: float) -> tuple[EventCounts, tuple[Counts, ...], tuple[str, ...]]:
    """Return what the logs say since then, counted, the counts of all versions, and what could not be read.

    Where the logs keep only what failed, the counts add the rest.
    """
    until = tools.clock.now()
    missing = []
    page = LogPage(EventCounts())
    rows: tuple[Counts, ...] = ()
    if tools.logs is None:
        missing.append("no source of logs is set up")
    else:
        try:
            page = tools.logs.read(since, until)
        except BackoutError as error:
            missing.append(f"the logs could not be read: {error.what}")
    if tools.traffic is None:
        missing.append("no source of counts is set up: how many invocations were well is not known")
    else:
        try:
            rows = tools.traffic.read(int(since), int(until) + 1).counts
        except BackoutError as error:
            missing.append(f"the counts could not be read ({error.what}): how many were well is not known")
    events = page.counts if page.complete or not rows else _with_all(page, rows, since)
    return events, rows, tuple(missing)


def _with_all(page: LogPage, rows: tuple[Counts, ...], since: float) -> EventCounts:
    """Return the page with the invocations that said nothing, as the source of counts has them."""
    cut = int(since if page.since is None else page.since)
    by_version: dict[str, InvocationCounts] = {}
    for row in rows:
        if row.second >= cut or not row.errors:  # before the logs begin, a second without errors has no text missing
            known = by_version.get(row.version, InvocationCounts())
            by_version[row.version] = InvocationCounts(
                known.invocations + row.requests, known.errors + row.errors, known.canceled + row.canceled
            )
    return replace(page.counts, by_version=by_version)
