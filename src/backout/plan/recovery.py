"""A complete recovery as one plan: everything back to one moment, in the order that loses least; pure.

What can be prepared without an outage comes before it. Then, in this order: maintenance, queues and schedules, the
fence, the undo point, the database, the objects, one upload of code and secrets at 0 %, and back the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import field
from msgspec.structs import replace

from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.objects import CompareObjectsStep, RestoreObjectsStep, SurveyObjectsStep, UndoObjectsStep
from backout.model.steps.recovery import (
    CacheRecord,
    FenceCopyStep,
    FenceStandsStep,
    FenceStep,
    GoLiveStep,
    MaintenanceStep,
    OpenStep,
    Part,
    PauseStep,
    PlaceStep,
    ProveFenceStep,
    ProveTargetStep,
    ReadyStep,
    RecoverReportStep,
    RestoredStep,
    ResumeStep,
    UndoPointStep,
)
from backout.model.steps.rescue import NoteNewerStep, NoteUndoStep, RescueStep, UndoRescueStep
from backout.model.steps.restore import (
    AlsoBackStep,
    ExchangeStep,
    PromoteStep,
    StopServerStep,
    SwappedStep,
)
from backout.model.steps.rollback import MarkStep
from backout.model.steps.verification import VerifyStep
from backout.model.value import Value
from backout.model.version import Mark
from backout.plan.jobs import make_start_step, make_stop_all_step
from backout.plan.recovery_by_hand import LIVE_NOW, add_recovery_lines
from backout.plan.recovery_order import explain_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.jobs import JobsSetup
    from backout.model.plan import Equivalents, Json
    from backout.model.triggers import Coverage
    from backout.plan.recovery_by_hand import ByHand

PARTS: Final = ("code", "database", "objects", "secrets")
"""The parts of an application, in the order in which they are shown."""
LEFT_OUT: Final = "left out"
STAYS: Final = "stays"
OVERWRITES: Final = tuple(kind.action for kind in (ExchangeStep, RescueStep, UndoRescueStep, RestoreObjectsStep))
"""The actions that overwrite something: from the first of them on, a failure leaves the application closed."""
_ACTS: Final = (PromoteStep, NoteNewerStep, StopServerStep, NoteUndoStep)
"""With the first of these the part of a restore begins that has to wait for the fence."""
_CHANGES: Final = (StopServerStep, RescueStep, UndoRescueStep)


class CodeChange(Value, frozen=True):
    """What is to be live at the end.

    Args:
        expected, leaving: the deployment that the plan rests on, and the version that it serves.
        version: the one that is to be live: `leaving` itself where the code stays.
        uploads: it is uploaded again, with the secrets as they are now and those below.
        secrets: fingerprints by name of what is set with it.
        source: where their values are read, as the journal keeps it; described: the same in words.
        bad: the mark that the version which is left gets, None where it is not bad.
        force: its own secret values come back with it.
    """

    expected: str
    leaving: str
    version: str
    uploads: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Json] = field(default_factory=dict)
    described: str = ""
    bad: MarkStep | None = None
    force: bool = False


class Stops(Value, frozen=True):
    """What runs now, and is stopped meanwhile.

    Args:
        maintenance: whether the platform can show a maintenance page, and does not yet.
        is_closed: it shows one already.
        schedules: None where there are none.
        jobs: how job workers are moved, None where there are none; which of them run is not asked for a plan.
    """

    maintenance: bool = True
    is_closed: bool = False
    queues: tuple[str, ...] = ()
    schedules: tuple[str, ...] | None = None
    caches: tuple[CacheRecord, ...] = ()
    jobs: JobsSetup | None = None

    @property
    def is_something(self) -> bool:
        """Whether anything is to be stopped that was found running."""
        return bool(self.queues or self.schedules or self.caches)

    @property
    def moved_jobs(self) -> JobsSetup | None:
        """How job workers are stopped and started, None where they are not."""
        return None if self.jobs is None or self.jobs.withheld else self.jobs


class Recovery(Value, frozen=True):
    """What is to be recovered.

    Args:
        target: the moment as it was typed; at: the same in Unix seconds.
        why: one sentence.
        deadline_s: after this time people are told that the application is still closed.
        parts: what becomes of each part, by name.
        database, objects: the plans that restore them alone, None where they stay.
        fenced: whether a fence is around the database meanwhile.
        is_down: its server is, with the fence in it: it is not raised first.
        cache_s: how long a cache that cannot be stopped may answer with rows from before.
        losses, notes: for a person.
        undoes: the run that this takes back, "" for none.
    """

    environment: str
    target: str
    at: float
    why: str
    deadline_s: float
    parts: Mapping[str, Part]
    code: CodeChange
    stops: Stops
    database: Plan | None = None
    objects: Plan | None = None
    fenced: bool = True
    is_down: bool = False
    cache_s: float = 0.0
    losses: tuple[Coverage, ...] = ()
    not_covered: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    undoes: str = ""


def make_recovery_plan(recovery: Recovery, hand: ByHand) -> Plan:
    """Return the one plan of a recovery."""
    prepare, act = split_restore(recovery.database)
    steps = [
        *prepare,
        _make_ready_step(recovery),
        *_list_stops(recovery, hand.lines),
        *_list_changes(act, recovery),
        *(recovery.objects.steps if recovery.objects is not None else ()),
        *_list_return(recovery),
        *_list_starts(recovery, hand.lines),
    ]
    plan = Plan(
        PlanKind.RECOVER,
        recovery.environment,
        recovery.why,
        tuple(steps),
        notes=(*recovery.notes, *_tell_kept_jobs(recovery.stops), *explain_order(steps)),
        not_covered=recovery.not_covered,
        coverage=recovery.losses,
    )
    return add_recovery_lines(plan, hand)


def split_restore(plan: Plan | None) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the steps of a restore that can precede the outage, and the others.

    What else goes back with a cluster is looked at before the fence, which writes to roles itself.
    """
    if plan is None:
        return (), ()
    begin = next(
        (number for number, step in enumerate(plan.steps) if any(step.does(kind) for kind in _ACTS)), len(plan.steps)
    )
    early = tuple(step for step in plan.steps[begin:] if step.does(AlsoBackStep))
    return (*plan.steps[:begin], *early), tuple(step for step in plan.steps[begin:] if not step.does(AlsoBackStep))


def _make_ready_step(recovery: Recovery) -> Step:
    code = recovery.code
    ready = ReadyStep(
        expected=code.expected,
        leaving=code.leaving,
        version="" if code.version == code.leaving else code.version,
        uploads=code.uploads,
        secrets=dict(code.secrets),
        source=dict(code.source),
    )
    return Step.of("look again whether all that is needed is at hand; nothing is stopped before", ready)


def _list_stops(recovery: Recovery, lines: Equivalents) -> list[Step]:
    code, stops = recovery.code, recovery.stops
    page = MaintenanceStep(
        expected=code.expected, leaving=code.leaving, deadline_s=recovery.deadline_s, shows=stops.maintenance
    )
    title, why = "show the maintenance page: 503 to every request", ""
    if stops.is_closed:
        title, why = "note that the outage goes on", "# nothing to type: the maintenance page is live"
    elif not stops.maintenance:
        title, why = "note that the outage begins", "# this platform shows no maintenance page"
    steps = [Step.of(title, page, why)]
    if stops.moved_jobs is not None:
        steps.append(make_stop_all_step(code.leaving, stops.moved_jobs, lines))
    if stops.is_something:
        pause = PauseStep(queues=stops.queues, schedules=stops.schedules, caches=stops.caches)
        steps.append(Step.of(f"stop {_name_stopped(stops)}", pause))
    if recovery.fenced and not recovery.is_down:
        steps += [
            Step.of(
                "raise the fence: no role but ours logs in to the database",
                FenceStep(deadline_s=recovery.deadline_s),
            ),
            Step.of("prove that nobody writes: no session, and no commit in the WAL since", ProveFenceStep()),
            Step.of("close the undo point at the fence: its WAL is in the archive", UndoPointStep()),
        ]
    return steps


def _list_changes(act: Sequence[Step], recovery: Recovery) -> list[Step]:
    """Return the steps behind the fence, with those that keep it up through an exchange of servers."""
    if not recovery.fenced:
        return list(act)
    steps: list[Step] = []
    for step in act:
        if step.does(PromoteStep):
            name = step.arguments(PromoteStep).name
            title = f"set the fence in side instance {name}: with the exchange its roles come, too"
            steps.append(Step.of(title, FenceCopyStep(name=name)))
        if any(step.does(kind) for kind in _CHANGES) and not recovery.is_down:
            steps.append(Step.of("look whether the fence stands", FenceStandsStep(when="before")))
        steps.append(step)
        if step.does(SwappedStep):
            steps.append(Step.of("look whether the fence stands there", FenceStandsStep(when="after")))
    return steps


def _list_return(recovery: Recovery) -> list[Step]:
    """Return the steps that open everything again, in the opposite order."""
    code, stops = recovery.code, recovery.stops
    moves = stops.maintenance or code.version != code.leaving or code.uploads
    place = PlaceStep(
        version=code.version,
        leaving=code.leaving,
        uploads=code.uploads,
        secrets=dict(code.secrets),
        source=dict(code.source),
        force=code.force,
    )
    steps = [Step.of(_describe_place(code), place)] if moves else []
    if recovery.database is not None or recovery.objects is not None:
        steps.append(Step.of("look at every second check before anything is opened", RestoredStep()))
    if recovery.fenced:
        steps.append(
            Step.of("take the fence away, read the roles back, and try one write of the application's role", OpenStep())
        )
    if moves:
        live = GoLiveStep(version=code.version, leaving=code.leaving, bad=code.bad is not None, force=code.force)
        steps += [
            Step.of(
                f"prove version {code.version[:8]} at 0 % of the traffic",
                ProveTargetStep(demanded=not recovery.undoes and (code.uploads or code.version != code.leaving)),
            ),
            Step.of(f"give version {code.version[:8]} all of the traffic, and read it back", live),
        ]
    if stops.is_something:
        resume = ResumeStep(queues=stops.queues, schedules=stops.schedules, caches=stops.caches)
        steps.append(Step.of(f"let {_name_stopped(stops)} go on", resume))
    if code.bad is not None:
        steps.append(Step.of(f"quarantine version {code.leaving[:8]}", code.bad))
    report = RecoverReportStep(
        target=recovery.target, at=recovery.at, parts=dict(recovery.parts), undoes=recovery.undoes
    )
    left = code.leaving if code.version != code.leaving else None
    watch = VerifyStep(version=code.version, left=left, cache_s=recovery.cache_s)
    return [
        *steps,
        Step.of("watch the success criteria", watch),
        Step.of("write the report, and send the notice", report),
    ]


def _list_starts(recovery: Recovery, lines: Equivalents) -> list[Step]:
    """Return the step that starts job workers: behind the report, as nothing waits for them."""
    code, jobs = recovery.code, recovery.stops.moved_jobs
    if jobs is None:
        return []
    step = make_start_step(code.version, jobs, lines, LIVE_NOW if code.uploads else "")
    return [replace(step, equivalent=f"# {LIVE_NOW}: what is live then\n{step.equivalent}")] if code.uploads else [step]


def _tell_kept_jobs(stops: Stops) -> tuple[str, ...]:
    if stops.jobs is None or not stops.jobs.withheld:
        return ()
    return (f"job workers are not stopped: {stops.jobs.withheld}; end them first, as they write",)


def _describe_place(code: CodeChange) -> str:
    if not code.uploads:
        return f"put version {code.version[:8]} at 0 % of the traffic"
    with_secrets = f" with {', '.join(sorted(code.secrets))} from {code.described}" if code.secrets else ""
    return f"upload the code of version {code.version[:8]} again{with_secrets}, in one call, at 0 % of the traffic"


def _name_stopped(stops: Stops) -> str:
    told = [f"queue {name}" for name in stops.queues]
    told += [f"schedule {each}" for each in stops.schedules or ()]
    told += [f"cache {each.name}" for each in stops.caches]
    return ", ".join(told)


def describe_left_out(parts: Mapping[str, Part]) -> tuple[str, ...]:
    """Return what will not fit together, a sentence for each part that is left out of a recovery.

    >>> describe_left_out({"code": Part(action="left out"), "database": Part(action="swap", ends="14:03")})[0]
    'will not fit together: the code stays, and may expect a schema or rows from after 14:03'
    """
    back = next((part.ends for part in parts.values() if part.action not in (LEFT_OUT, STAYS)), "")
    said = {
        "code": f"the code stays, and may expect a schema or rows from after {back}",
        "database": f"the database stays, and names objects, or has a schema, from after {back}",
        "objects": f"the objects stay, and some that the database names by then may be gone, or are from after {back}",
        "secrets": f"secrets stay as they are now; what the code of {back} needs, and is not there, stays missing",
    }
    out = (name for name in PARTS if name in parts and parts[name].action == LEFT_OUT)
    return tuple(f"will not fit together: {said[name]}" for name in out)


def is_recovery(plan: Plan) -> bool:
    """Whether a plan is a complete recovery, or the undo of one."""
    return plan.has(RecoverReportStep)


def find_order(plan: Plan) -> SurveyObjectsStep | UndoObjectsStep | None:
    """Return what a recovery is to do with the objects, None: nothing."""
    if plan.has(UndoObjectsStep):
        return plan.arguments(UndoObjectsStep)
    return plan.arguments(SurveyObjectsStep) if plan.has(SurveyObjectsStep) else None


def make_quarantine(leaving: str, code_hash: str | None, git_sha: str, why: str) -> MarkStep:
    """Return the mark of the version that a recovery leaves."""
    return MarkStep(mark=Mark.QUARANTINED, version=leaving, code_hash=code_hash, git_sha=git_sha, why=why)


def set_reason(plan: Plan, message: str) -> Plan:
    """Return the same plan with the reason that a person gave."""
    return replace(plan, why=" ".join(message.split())) if message.strip() else plan


def has_objects(plan: Plan) -> bool:
    """Whether a recovery restores objects."""
    return plan.has(CompareObjectsStep)
