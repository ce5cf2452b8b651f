"""Build the timeline entries of an environment from what was read of it; pure."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_remark, is_remark, list_marks, merge_marks
from backout.escaping import fold_blanks
from backout.model.deployment import Deployment, DeploymentId, Share
from backout.model.hold import Hold
from backout.model.incident.incident import RunState
from backout.model.incident.timeline import Entry, EntryKind, Moment, Timeline
from backout.model.remark import Remark, RemarkKind
from backout.model.version import VersionId
from backout.report.incident.run_entries import RunTeller
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backout.model.incident.incident import Event, Run
    from backout.model.incident.notice import QueuedNotice
    from backout.model.incident.timeline import Records
    from backout.model.plan import Json, Step

_ID = 8
_ORDER = (
    *(EntryKind.VERDICT, EntryKind.COMMAND, EntryKind.RUN, EntryKind.DEPLOYMENT, EntryKind.WATCH),
    *(EntryKind.MARK, EntryKind.HOLD, EntryKind.CHANGE, EntryKind.NOTE, EntryKind.NOTICE),
)
"""The order of things that happened at the same time: a cause comes before its effects."""


def tell(records: Records, *, since: float, until: float, at: float | None = None, most: int | None = None) -> Timeline:
    """Return what happened from `since` to `until` (Unix seconds), oldest first.

    Args:
        at: a moment for which to show what was live and under way.
        most: at most this many entries, the newest; None: all.
    """
    deployments = list_known_deployments(records)
    holds = _holds(records)
    teller = RunTeller(records.runs)
    told = [
        *_list_deployed(deployments, {run.id for run in records.runs}),
        *_list_marked(records),
        *_list_holds(holds),
        *(entry for event in records.events for entry in teller.hear(event)),
        *teller.left_alone(),
        *_list_notices(records.queued),
    ]
    entries = sorted((each for each in told if since <= each.at <= until), key=lambda e: (e.at, _ORDER.index(e.kind)))
    left_out = 0 if most is None else max(0, len(entries) - most)
    moment = None if at is None else _find_moment(records, deployments, holds, at)
    return Timeline(records.environment, since, until, tuple(entries[left_out:]), moment, left_out, records.notes)


def list_known_deployments(records: Records) -> tuple[Deployment, ...]:
    """Return the deployments that decided about traffic, oldest first, each once; the provider's record wins."""
    steps = {run.id: run for run in records.runs}
    found = {each.id: each for each in _list_watched(records.runs)}
    found |= {
        each.id: each for event in records.events if (each := _find_made(event, steps.get(event.run))) is not None
    }
    found |= {each.id: each for each in records.listed if not is_remark(each)}
    for each in records.listed:
        if is_remark(each):
            found.pop(each.id, None)
    return tuple(sorted(found.values(), key=lambda each: each.created_at))


def _list_watched(runs: Iterable[Run]) -> Iterator[Deployment]:
    """Yield the deployments that watches of this journal were about."""
    for run in runs:
        for step in run.plan.steps:
            if step.action == "watch" and step.args.get("deployed_at") is not None:
                new, old, share = (
                    str(step.args["version"]),
                    str(step.args["old"]),
                    100 * _get_number(step.args["split"]),
                )
                rest = [Share(VersionId(old), 100 - share)] if old and share < 100 else []
                shares = sorted([Share(VersionId(new), share), *rest], key=lambda each: -each.percentage)
                at = _get_number(step.args["deployed_at"])
                yield Deployment(DeploymentId(str(step.args["deployment"])), at, tuple(shares))


_KINDS = {
    "activate": RemarkKind.ROLLBACK,
    "ramp": RemarkKind.RAMP,
    "push_secrets": RemarkKind.SECRETS,
}
"""Steps that make a deployment, and what their remark is."""


def _find_made(event: Event, run: Run | None) -> Deployment | None:
    """Return the deployment that a step of this journal made or read back, from its end; None for other events."""
    if event.kind != "step.ok" or event.step is None or run is None or event.step >= len(run.plan.steps):
        return None
    step, result = run.plan.steps[event.step], event.data.get("result")
    if step.action not in (*_KINDS, "read_new") or not isinstance(result, dict) or not result.get("deployment"):
        return None
    at = result.get("at", result.get("since"))
    kind = _KINDS.get(step.action)
    claim = None if kind is None else Remark(kind, run.id, auto=bool(run.plan.cause), text=run.plan.why)
    shares = _list_shares(step, result)
    return Deployment(DeploymentId(str(result["deployment"])), _get_number(at) or event.at, shares, claim=claim)


def _list_shares(step: Step, result: Mapping[str, Json]) -> tuple[Share, ...]:
    if step.action != "ramp":
        return (Share(VersionId(str(result["version"])), 100.0),)
    share = _get_number(result.get("percentage"))
    pair = [Share(VersionId(str(step.args["version"])), share), Share(VersionId(str(step.args["old"])), 100 - share)]
    return tuple(sorted((each for each in pair if each.percentage > 0), key=lambda each: -each.percentage))


def _list_deployed(deployments: Sequence[Deployment], runs: set[str]) -> Iterator[Entry]:
    """Yield the deployments; the reason for one that one of `runs` made is told with that run."""
    for before, each in pairwise([None, *deployments]):
        assert each is not None
        said = find_remark(each)
        text = _describe_live(each, before, said)
        why = fold_blanks(said.text if said is not None else each.message)
        if said is not None and said.run in runs:
            text, why = f"{text} ({said.run})", ""
        by = each.author or (said.run if said is not None and said.auto else "") or each.triggered_by
        run = said.run if said is not None else ""
        yield Entry(each.created_at, EntryKind.DEPLOYMENT, f"{text}: {why}" if why else text, run, by)


def _describe_live(each: Deployment, before: Deployment | None, said: Remark | None) -> str:
    kind = said.kind if said is not None else None
    if each.sole is None:
        return f"{describe_traffic(each)}"
    version = f"version {each.main[:_ID]}"
    left = f", in place of {before.main[:_ID]}" if before is not None and before.main != each.main else ""
    if kind is RemarkKind.ROLLBACK:
        return f"{version} is live again{left}"
    if kind is RemarkKind.SECRETS:
        return f"{version} is live{left}: other secrets"
    return f"{version} went live{left}"


def describe_traffic(deployment: Deployment) -> str:
    """Return what has the traffic: `version 1a2b3c4d`, or `1a2b3c4d 10 %, 77f0e9aa 90 %`."""
    if deployment.sole is not None:
        return f"version {deployment.sole[:_ID]}"
    return ", ".join(f"{share.version[:_ID]} {share.percentage:g} %" for share in deployment.shares if share.percentage)


def _list_marked(records: Records) -> Iterator[Entry]:
    runs = {run.id for run in records.runs}
    for mark in merge_marks(records.marks, list_marks(records.listed, ())):
        why = "" if mark.run in runs else fold_blanks(mark.why)  # told with that run
        text = f"version {mark.version[:_ID]} {_MARK_WORDS.get(mark.mark, mark.mark)}"
        text += f" ({mark.run})" if mark.run else ""
        yield Entry(mark.at, EntryKind.MARK, f"{text}: {why}" if why else text, mark.run, mark.by)


_MARK_WORDS = {"stable": "is stable", "quarantined": "is quarantined", "released": "is released from quarantine"}


def _holds(records: Records) -> tuple[Hold, ...]:
    """Return the holds that were set and lifted, oldest first, each once, from the provider's list and this host."""
    found: dict[str, Hold] = {}
    for each in reversed(records.listed):
        said = find_remark(each)
        if said is not None and said.kind is RemarkKind.HOLD:
            where = f"deployment {each.id}"
            told = Hold(said.until, said.text, each.author, each.created_at, where, said.incident)
            found[where] = told.as_told()
    for hold in records.holds:
        known = found.get(hold.where)
        if known is None:
            found[f"{hold.where} {hold.at}"] = hold
        elif hold.by:  # this host may know who typed it; the list only knows whose token it was
            found[hold.where] = Hold(known.until, known.why, hold.by, known.at, known.where, known.incident)
    return tuple(sorted(found.values(), key=lambda each: each.at))


def _list_holds(holds: Iterable[Hold]) -> Iterator[Entry]:
    for hold in holds:
        text = (
            f"every automatic action is stopped {describe_until(hold)}"
            if hold.until
            else "automatic actions are allowed again"
        )
        yield Entry(hold.at, EntryKind.HOLD, f"{text}: {fold_blanks(hold.why)}", hold.incident, hold.by)


def describe_until(hold: Hold) -> str:
    """Return how long a hold lasts, in words."""
    return "until it is lifted" if math.isinf(hold.until) else f"until {format_time(hold.until)[:19]}Z"


def _list_notices(queued: Iterable[QueuedNotice]) -> Iterator[Entry]:
    """Yield each notice once, with what became of it on each channel."""
    ways: dict[str, list[QueuedNotice]] = {}
    for item in queued:
        ways.setdefault(item.notice.key, []).append(item)
    for each in ways.values():
        notice = each[0].notice
        how = ", ".join(f"{item.channel}: {item.state.replace('_', ' ')}" for item in each)
        yield Entry(notice.at, EntryKind.NOTICE, f"told: {fold_blanks(notice.title)} ({how})", notice.run)


def _find_moment(records: Records, deployments: Sequence[Deployment], holds: Sequence[Hold], at: float) -> Moment:
    live = next((each for each in reversed(deployments) if each.created_at <= at), None)
    heard = {event.run: event.at for event in records.events}  # the last of each run

    def until(run: Run) -> float:
        if run.ended_at is not None:
            return run.ended_at
        return records.now if run.state is RunState.RUNNING else run.alive_at or heard.get(run.id, run.started_at)

    runs = tuple(run for run in records.runs if run.started_at <= at <= until(run))
    last = next((each for each in reversed(holds) if each.at <= at), None)
    return Moment(at, live, runs, last if last is not None and last.is_on(at) else None)


def _get_number(value: Json) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
