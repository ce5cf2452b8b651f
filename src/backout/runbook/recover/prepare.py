"""The plan of a complete recovery: which moment, what becomes of each part, and what that costs; nothing is changed."""

from __future__ import annotations

import hashlib
import shlex
from typing import TYPE_CHECKING, Final

from msgspec import structs
from msgspec.structs import replace

from backout.analysis.history.remarks import find_underneath
from backout.errors import BackoutError, Busy, Refused, UsageError
from backout.model.clock import to_utc
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.steps.objects import SurveyObjectsStep
from backout.model.steps.recovery import CacheRecord, Part, RecoverReportStep
from backout.model.steps.verification import VerifyStep
from backout.model.triggers import Coverage, Fate, TriggerKind
from backout.model.value import Value
from backout.plan.objects import name_lane
from backout.plan.query_cache import CACHE_S
from backout.plan.recovery import (
    LEFT_OUT,
    PARTS,
    STAYS,
    Recovery,
    Stops,
    describe_left_out,
    is_recovery,
    make_recovery_plan,
)
from backout.plan.recovery_by_hand import ByHand
from backout.plan.target import parse_time
from backout.report.times import format_duration, format_time
from backout.runbook.objects.restore import prepare as prepare_objects
from backout.runbook.observe import observe
from backout.runbook.recover.code import choose_code
from backout.runbook.recover.outcome import read_outcome
from backout.runbook.recover.ready import check_fence
from backout.runbook.recovery.restore import plan_rescue, plan_swap
from backout.runbook.recovery.restore_points import list_noted, list_recorded_points
from backout.runbook.recovery.target import find
from backout.runbook.recovery.whole_cluster import ALSO, LOST
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.database.fence import FenceSurvey
    from backout.model.plan import Plan
    from backout.model.platform import CacheState
    from backout.plan.recovery import CodeChange
    from backout.runbook.recover.tools import RecoverTools
    from backout.runbook.recovery.target import Found

DEADLINE_S: Final = 3600.0
_OFFER: Final = (
    "where it is known what did the damage, `--damage TARGET` copies only damaged rows back, "
    "and what was written since stays"
)
FOREVER: Final = 253_402_300_799.0
"""The end of the year 9999: what is in the bucket when it is listed was all written before it."""


class RecoverAsk(Value, frozen=True):
    """What a person asks for.

    Args:
        to: the moment, as it was typed; "" where only the damage is named.
        damage: what did the damage in the database, as `db restore` names it, "" where that is not known.
        only: the parts to recover, () for all that are set up.
        swap: replace the whole database even where copying back damaged rows is enough.
        deadline_s: after this time people are told that it is still closed.
    """

    to: str
    damage: str = ""
    only: tuple[str, ...] = ()
    swap: bool = False
    deadline_s: float = DEADLINE_S


class _Moment(Value, frozen=True):
    """The moment to return to: as typed, in Unix seconds.

    Args:
        version: the one that was noted as live then, "" where the provider's history tells.
        found: what was found in the WAL, None where none is read.
    """

    text: str
    at: float
    version: str = ""
    found: Found | None = None

    @property
    def words(self) -> str:
        """The moment for a person."""
        return format_time(self.at)


def prepare(tools: RecoverTools, ask: RecoverAsk) -> Plan:
    """Return the plan; this is the whole dry run.

    Raises:
        UsageError: the moment means nothing, or a part is not set up.
        Refused: it cannot be reached, the fence would not hold, or a rule forbids it.
    """
    box = tools.tools
    check_identity(box)
    chosen = choose_parts(tools, ask.only)
    moment = _find_moment(tools, ask, chosen)
    situation = observe(box)
    if situation.live.sole is None:
        raise Refused(
            "a gradual deployment is on, and a recovery has to know what is left",
            where=box.environment,
            options=("End it first: all of the traffic to one version.",),
        )
    mark = make_mark(tools, moment.text)
    database, alternative = _plan_database(tools, ask, moment, mark) if "database" in chosen else (None, ())
    objects = _plan_objects(tools, moment) if "objects" in chosen else None
    code, code_notes = choose_code(
        box,
        situation,
        moment.version or format_iso(moment.at),
        with_code="code" in chosen,
        with_secrets="secrets" in chosen,
        with_database=database is not None,
    )
    survey = check_fence(tools, ()) if database is not None else None
    stops = find_stops(tools, with_caches=database is not None)
    parts = _describe_parts(chosen, moment, database, objects, code)
    recovery = Recovery(
        environment=box.environment,
        target=moment.text,
        at=moment.at,
        why=f"everything as it was at {moment.words}" if not ask.only else f"{', '.join(chosen)} to {moment.words}",
        deadline_s=ask.deadline_s,
        parts=parts,
        code=code,
        stops=stops,
        database=database,
        objects=objects,
        fenced=database is not None,
        cache_s=CACHE_S if database is not None and _may_cache(tools, stops) else 0.0,
        losses=_list_losses(parts, moment, database),
        not_covered=_list_uncovered(tools),
        notes=(
            *(database.notes if database is not None else ()),
            *alternative,
            *code_notes,
            *describe_left_out(parts),
            *_explain_skips(tools, parts, stops),
            *_tell_duration(tools),
        ),
    )
    return make_recovery_plan(recovery, make_by_hand(tools, survey))


def make_by_hand(tools: RecoverTools, survey: FenceSurvey | None) -> ByHand:
    """Return what the lines that a person would type are made of; `survey`: of the fence, None without one."""
    lines = tools.tools.rollback.equivalents
    return ByHand(lines) if survey is None else ByHand(lines, survey.psql, survey.planned, survey.by_hand)


def choose_parts(tools: RecoverTools, only: Sequence[str]) -> tuple[str, ...]:
    """Return the parts to recover. Raises UsageError: one is not known, or not set up."""
    there = {
        "code": True,
        "database": tools.restoring is not None and tools.fence is not None,
        "objects": tools.objects is not None,
        "secrets": tools.tools.pushing is not None,
    }
    for name in only:
        if name not in there:
            raise UsageError(f"there is no part {name!r}", hint=f"the parts are {', '.join(PARTS)}")
        if not there[name]:
            raise UsageError(f"{name} is not set up here, so it cannot be recovered", where=tools.tools.environment)
    return tuple(name for name in PARTS if there[name] and (not only or name in only))


def format_iso(at: float) -> str:
    """Return a moment as it is typed, exactly."""
    return to_utc(at).isoformat()


def _find_moment(tools: RecoverTools, ask: RecoverAsk, chosen: Sequence[str]) -> _Moment:
    box, text = tools.tools, (ask.to or ask.damage).strip()
    now, points = box.clock.now(), list_noted(box.journal, box.environment)
    noted = next((point for point in points if point.name == text), None)
    recorded = [point.at for point in list_recorded_points(box.journal, box.environment) if point.name == text]
    typed, version = (parse_time(text, now), "") if noted is None else (noted.at, noted.version)
    typed = recorded[-1] if noted is None and recorded else typed
    if typed is not None and typed > now:
        raise UsageError(f"{text!r} lies in the future", where=box.environment)
    if "database" not in chosen or tools.restoring is None:
        if typed is None:
            hint = f"backout recover --list -e {box.environment}"
            raise UsageError(f"{text!r} is no time, and no recovery point", where=box.environment, hint=hint)
        return _Moment(text, typed, version)
    found = find(tools.restoring, text)
    at = typed if typed is not None else found.target.at
    if at is None:
        raise UsageError(
            f"{text!r} is a position in the database, and code and objects go by the time",
            where=box.environment,
            hint="name a time or a restore point; or `--only database`",
        )
    return _Moment(text, at, version, found)


def _plan_database(tools: RecoverTools, ask: RecoverAsk, moment: _Moment, mark: str) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan of the database, and what the other way would cost: damaged rows first, the whole at last."""
    restoring = tools.restoring
    assert restoring is not None
    damage = ask.damage or (moment.text if moment.found is not None and moment.found.damage else "")
    if not damage:
        line = f"backout db transactions --since {shlex.quote(format_iso(moment.at))} -e {restoring.environment}"
        return plan_swap(restoring, moment.text, mark), (f"{_OFFER} (`{line}` lists what wrote since)",)
    if ask.swap:
        return plan_swap(restoring, moment.text, mark), ()
    try:
        rescue = plan_rescue(restoring, damage, conflicts="live", skip=(), queues=False, mark=mark)
    except (Refused, UsageError) as error:
        if ask.damage:
            raise
        return plan_swap(restoring, moment.text, mark), (f"the damaged rows alone cannot be copied back: {error.what}",)
    return rescue, _tell_swap(tools, moment.text, mark)


def _tell_swap(tools: RecoverTools, text: str, mark: str) -> tuple[str, ...]:
    """Return what the exchange of the whole would lose; it is the last way, and is not needed here."""
    assert tools.restoring is not None
    if tools.restoring.server is None:
        return ()
    try:
        swap = plan_swap(tools.restoring, text, mark)
    except (Refused, UsageError) as error:
        return (f"the whole could not be exchanged (--swap): {error.what}",)
    lost = [note for note in swap.notes if note.startswith((LOST, ALSO))]
    return (f"the last way is to exchange the whole (--swap); then {'; '.join(lost) or 'nothing more goes back'}",)


def _plan_objects(tools: RecoverTools, moment: _Moment) -> Plan:
    """Return the plan of the objects. Raises Busy: a restore of them is unfinished."""
    objects = tools.objects
    assert objects is not None
    newest = next(objects.runs.walk_runs(name_lane(objects.environment)), None)
    if newest is not None and not newest.state.is_over:
        raise Busy(
            f"run {newest.id} restores objects and is unfinished",
            where=objects.environment,
            hint=f"backout runs resume {newest.id}, or: backout runs abort {newest.id}",
        )
    plan = prepare_objects(objects, format_iso(moment.at), None, objects.prefix)
    survey = plan.arguments(SurveyObjectsStep)
    return plan.replace_arguments(structs.replace(survey, until=FOREVER))


def find_stops(tools: RecoverTools, *, with_caches: bool) -> Stops:
    """Return what starts the application now, or answers in the database's place."""
    platform, triggers, jobs = tools.tools.platform, tools.tools.rollback.triggers, tools.tools.rollback.jobs
    queues = platform.queues.list_consumed() if platform.queues is not None else ()
    schedules = triggers.read((TriggerKind.SCHEDULES,)).schedules if triggers is not None else None
    caches = _read_caches(tools) if with_caches else ()
    return Stops(
        maintenance=platform.maintenance is not None,
        queues=tuple(each.name for each in queues if each.delivers),
        schedules=schedules or None,
        caches=tuple(
            CacheRecord(id=each.id, name=each.name, max_age_s=each.max_age_s, stale_s=each.stale_s)
            for each in caches
            if each.is_on
        ),
        jobs=None if jobs is None else jobs.setup,
    )


def _read_caches(tools: RecoverTools) -> tuple[CacheState, ...]:
    """Return the caches in front of the database; () where they cannot be read, which is said."""
    caches = tools.tools.platform.read_caches
    try:
        return caches.read() if caches is not None else ()
    except BackoutError as error:
        tools.tools.say(f"the caches in front of the database cannot be stopped: {error.what}")
        return ()


def _may_cache(tools: RecoverTools, stops: Stops) -> bool:
    """Whether the live version reads its database through something that may cache, and is not stopped."""
    live = find_underneath(tools.tools.deployments.history())
    bindings = tools.tools.versions.detail(live.main).bindings
    return not stops.caches and any(each.startswith("hyperdrive") for each in bindings)


def _describe_parts(
    chosen: Sequence[str], moment: _Moment, database: Plan | None, objects: Plan | None, code: CodeChange
) -> Mapping[str, Part]:
    found = {name: Part(action=LEFT_OUT) for name in PARTS}
    moved = code.version != code.leaving
    if "code" in chosen:
        action = STAYS if not moved else "upload" if code.uploads else "rollback"
        found["code"] = Part(action=action, begins=code.leaving, ends=code.version)
    if database is not None:
        is_swap = any(step.action == "db_exchange" for step in database.steps)
        found["database"] = Part(action="swap" if is_swap else "rescue", begins="now", ends=moment.words)
    if objects is not None:
        found["objects"] = Part(action="restore", begins="now", ends=moment.words)
    if "secrets" in chosen:
        names = ", ".join(sorted(code.secrets))
        found["secrets"] = Part(action="set" if names else STAYS, begins="missing" if names else "", ends=names)
    return found


def _list_losses(parts: Mapping[str, Part], moment: _Moment, database: Plan | None) -> tuple[Coverage, ...]:
    lines = []
    if parts["code"].action not in (LEFT_OUT, STAYS):
        code = parts["code"]
        lines.append(
            Coverage("code", Fate.CHANGES, f"version {code.begins[:8]} becomes {code.ends[:8]}; nothing is lost")
        )
    if database is not None:
        lost = [note.removeprefix(LOST) for note in database.notes if note.startswith(LOST)]
        whole = f"as it was at {moment.words}; lost: {'; '.join(lost) or 'nothing that is known'}"
        rows = "the damaged rows alone; what was written since stays"
        is_swap = parts["database"].action == "swap"
        lines.append(Coverage("database", Fate.CHANGES, whole if is_swap else rows))
    if parts["objects"].action != LEFT_OUT:
        why = f"as they were at {moment.words}; what was written since stays as an older version"
        lines.append(Coverage("objects", Fate.CHANGES, why))
    if parts["secrets"].action == "set":
        lines.append(Coverage("secrets", Fate.CHANGES, f"{parts['secrets'].ends}: set again from their source"))
    return tuple(lines)


def _list_uncovered(tools: RecoverTools) -> tuple[str, ...]:
    caches = tools.tools.platform.read_caches
    try:
        kept = caches.list_uncovered() if caches is not None else ()
    except BackoutError as error:
        kept = (f"what else the platform keeps of earlier data: it could not be read ({error.what})",)
    return (*kept, "what the outside world knows already: mails, payments, webhooks about rows from after the moment")


def _explain_skips(tools: RecoverTools, parts: Mapping[str, Part], stops: Stops) -> tuple[str, ...]:
    """Return why parts and steps of the order are not in the plan."""
    told = []
    if parts["code"].action == STAYS:
        told.append(f"the code stays: version {parts['code'].ends[:8]} was live then, too")
    if parts["secrets"].action == STAYS:
        told.append("secrets stay as they are: this plan sets none")
    if not stops.is_something:
        told.append("nothing is paused: no queue that delivers, no schedule and no cache before the database was found")
    if not stops.maintenance:
        told.append("this platform shows no maintenance page: while it is fenced, requests fail at the database")
    if tools.tools.recovery.restoring is None:
        told.append("no database is set up, so there is no fence")
    if not tools.tools.recovery.keeps_objects and tools.objects is None:
        told.append("no bucket is set up")
    if tools.tools.pushing is None:
        told.append("no source of secrets is set up")
    return tuple(f"skipped: {each}" for each in told)


def _tell_duration(tools: RecoverTools) -> tuple[str, ...]:
    """Return how long earlier recoveries took, until users were served again, and the part without any writes."""
    box = tools.tools
    done = [run for run in box.runs.runs(box.environment) if is_recovery(run.plan) and run.state is RunState.DONE]
    found = [read_outcome(box, run) for run in done if not run.plan.arguments(RecoverReportStep).undoes]
    took = [each.rto_s for each in found if each.rto_s is not None]
    if not took:
        return ("no recovery has been made here yet, so nothing tells how long it takes",)
    fenced = [each.fenced_s for each in found if each.fenced_s is not None]
    closed = f"; nobody could write for {_format_span(fenced)}" if fenced else ""
    return (
        f"users were served again {_format_span(took)} after the command, by {len(took)} earlier recoveries{closed}",
    )


def _format_span(seconds: Sequence[float]) -> str:
    least, most = format_duration(min(seconds)), format_duration(max(seconds))
    return least if least == most else f"{least} to {most}"


def make_mark(tools: RecoverTools, text: str) -> str:
    """Return a word that tells this recovery's folders from those of others, and is the same until one is begun."""
    begun = sum(run.plan.kind is PlanKind.RECOVER for run in tools.tools.runs.runs(tools.tools.environment))
    return hashlib.sha256(f"{tools.tools.environment} {text} {begun}".encode()).hexdigest()[:8]


def skip_verification(plan: Plan) -> Plan:
    """Return the same plan without the watch at its end."""
    return replace(plan, steps=tuple(step for step in plan.steps if not step.does(VerifyStep)))
