"""Diagnose ("Identify Issues"): what caused it, from the logs and from everything around them; it changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from backout.analysis.diagnosis import diagnose
from backout.analysis.diagnosis_build import diagnose_build
from backout.analysis.remarks import plain_history
from backout.analysis.signatures import Classifier
from backout.errors import BackoutError
from backout.model.diagnosis import Diagnosis, Surroundings
from backout.model.events import EventCounts, InvocationCounts
from backout.runbook.clues import changed, look_around
from backout.runbook.observe import observe, with_details

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.model.events import LogPage
    from backout.model.plan import Json
    from backout.model.situation import Situation
    from backout.ports import StepContext
    from backout.runbook.toolbox import Toolbox

BEFORE_S: Final = 3600.0
"""How long before the deployment the logs and counts are read: what was usual."""


def diagnose_now(tools: Toolbox, *, version: str = "", situation: Situation | None = None) -> Diagnosis:
    """Return what is wrong with a version (default: the live one), judged against the one before it.

    A source that does not answer is left out, and said.

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
    events, missing = _events(tools, live.created_at - BEFORE_S)
    answer = diagnose(events, around, catalogue, classifier)
    critical = tools.policy.services.get(answer.service or "")
    return replace(answer, criticality=None if critical is None else str(critical), notes=(*answer.notes, *missing))


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
        return msgspec.convert(last["diagnosis"], Diagnosis)
    try:
        found = diagnose_now(tools, version=version)
    except BackoutError as error:
        tools.say(f"no diagnosis: {error.what}")
        return None
    record: Json = msgspec.json.decode(tools.redact(msgspec.json.encode(found).decode()))
    context.progress({"diagnosis": record})
    return msgspec.convert(record, Diagnosis)


def _before(history: tuple[Deployment, ...], live: Deployment) -> str | None:
    """Return the version that served before this deployment, or beside it."""
    beside = next((share.version for share in live.shares if share.version != live.main and share.percentage > 0), None)
    at = history.index(live)
    return beside or next((each.main for each in history[at + 1 :] if each.main != live.main), None)


def _events(tools: Toolbox, since: float) -> tuple[EventCounts, tuple[str, ...]]:
    """Return what the logs say since then, counted; where they keep only what failed, the counts add the rest."""
    until = tools.clock.now()
    if tools.logs is None:
        return EventCounts(), ("no source of logs is set up",)
    try:
        page = tools.logs.read(since, until)
    except BackoutError as error:
        return EventCounts(), (f"the logs could not be read: {error.what}",)
    return (page.counts, ()) if page.complete else _with_all(tools, page, since, until)


def _with_all(tools: Toolbox, page: LogPage, since: float, until: float) -> tuple[EventCounts, tuple[str, ...]]:
    """Return the page with the invocations that said nothing, as the source of counts has them."""
    events = page.counts
    if tools.traffic is None:
        return events, ("no source of counts is set up: how many invocations were well is not known",)
    try:
        rows = tools.traffic.read(int(since), int(until) + 1).counts
    except BackoutError as error:
        return events, (f"the counts could not be read ({error.what}): how many were well is not known",)
    first = int(since if page.since is None else page.since)
    by_version: dict[str, InvocationCounts] = {}
    for row in rows:
        if row.second >= first:  # both begin together, though the counts reach further back
            known = by_version.get(row.version, InvocationCounts())
            by_version[row.version] = InvocationCounts(
                known.invocations + row.requests, known.errors + row.errors, known.canceled + row.canceled
            )
    return replace(events, by_version=by_version), ()
