"""The steps that open an application after it was restored: the target at 0 %, the database, the traffic, the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.history.remarks import find_underneath, is_half_made
from backout.decoding import decode_values
from backout.errors import BackoutError, ProviderUnavailable
from backout.model.deployment import Share
from backout.model.platform import CacheState
from backout.model.remark import Code, Remark, RemarkKind
from backout.model.steps.objects import CompareObjectsStep
from backout.model.steps.recovery import (
    FenceStep,
    GoLiveStep,
    MaintenanceStep,
    OpenResult,
    OpenStep,
    PauseResult,
    PlaceResult,
    PlaceStep,
    ProveTargetResult,
    ProveTargetStep,
    RecoverReportStep,
    RestoredResult,
    RestoredStep,
    ResumeStep,
)
from backout.model.steps.rollback import ReadBackResult
from backout.model.triggers import TriggerKind
from backout.model.version import VersionId
from backout.ports import Action, Done, NotDone, find_result
from backout.report.database.comparison import SECOND_CHECKS, format_comparison
from backout.runbook.probing.pre_promotion_probe import ask
from backout.runbook.recover.demanded import demand, read_found
from backout.runbook.recover.secrets import read_secrets
from backout.runbook.recover.tools import find_plan, get_fence, note_opened, read_own_fence
from backout.runbook.rollback.marked import make_message
from backout.runbook.rollback.reupload import upload_again
from backout.runbook.safety.checks import (
    await_listed,
    await_own_listed,
    check_on_every_host,
    find_own,
    make_read_back,
)
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.steps.recovery import CacheRecord
    from backout.ports import Probe, StepContext
    from backout.runbook.recover.tools import RecoverTools
    from backout.runbook.toolbox import Toolbox


_ACCEPTED: Final = (
    "where only this host cannot log in as the application, resume the run without the connection string "
    "(the variable of database.url_env, or database.url_file): no write is tried then"
)


MAY_OPEN: Final = "opening"
"""In the progress of the step: roles may be let in from then on."""
IS_OPEN: Final = "opened"
"""Likewise: they are, since then at the latest."""


class Place(Action[PlaceStep, PlaceResult]):
    """Step `recover_place` {version, leaving, uploads, secrets, source, force}: the target stands at 0 %."""

    arguments = PlaceStep

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: PlaceStep, context: StepContext) -> PlaceResult:
        """Return what stands there; an earlier attempt's upload and deployment are used again.

        Raises:
            BackoutError: something other than this run's maintenance page is live.
        """
        tools, run = self._tools.tools, context.run
        check_identity(tools)
        version = args.version
        if args.uploads:
            values = read_secrets(tools, args.secrets, args.source)
            version = upload_again(tools, run, args.version, values).id
        history = tools.deployments.history()
        made = find_own(history, run, RemarkKind.PROVE)
        if made is None or not _stands_there(made, version):
            made = self._deploy(args, run, version, history)
        return PlaceResult(version=version, deployment=made.id, code_of=args.version)

    def _deploy(self, args: PlaceStep, run: str, version: str, history: Sequence[Deployment]) -> Deployment:
        tools = self._tools.tools
        live = find_live(tools, run, history)
        if live.serves(version):
            return live
        shares = [share for share in live.shares if live.serves(share.version)]
        shares.append(Share(VersionId(version), 0.0))
        remark = Remark(RemarkKind.PROVE, run, text=f"version {version} is asked at 0 %")
        message = make_message(tools, remark, history[0])
        try:
            return tools.deployments.deploy(shares, message=message, force=args.force, cohorts=live.cohorts)
        except ProviderUnavailable:
            found = find_own(await_own_listed(tools, run, RemarkKind.PROVE), run, RemarkKind.PROVE)
            if found is None or not _stands_there(found, version):
                raise
            return found


def _stands_there(made: Deployment, version: str) -> bool:
    return any(share.version == version for share in made.shares)


def find_live(tools: Toolbox, run: str, history: Sequence[Deployment]) -> Deployment:
    """Return what is live: the maintenance page of this run, or what it left where there is none.

    Hosts that differ because this run's own switch reached some of them count as well.

    Raises:
        BackoutError: another one is.
    """
    plan = find_plan(tools.runs, run)
    begun, wanted = find_result(tools.runs, run, MaintenanceStep), plan.arguments(MaintenanceStep)
    own = begun.deployment if begun is not None and begun.deployment else wanted.expected
    live = find_underneath(history)
    if live.id != own and not is_half_made(history, own, run):
        raise BackoutError(
            f"deployment {live.id} (version {live.main}) is live, and not what this run left there",
            where=tools.environment,
            hint=f"backout deployments list -e {tools.environment}  # who deployed it; make {own} live again",
        )
    return live


class CheckRestored(Action[RestoredStep, RestoredResult]):
    """Step `recover_restored`: every second check was made and is well, before anything is opened."""

    arguments = RestoredStep
    effect = False

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: RestoredStep, context: StepContext) -> RestoredResult:
        """Return what was checked.

        Raises:
            BackoutError: a check found a difference, or could not be made, and nobody has opened by hand since; so
                everything stays closed.
        """
        runs, run = self._tools.tools.runs, context.run
        plan, checked, accepted = find_plan(runs, run), list[str](), list[str]()
        for kind in SECOND_CHECKS:
            found = find_result(runs, run, kind) if plan.has(kind) else None
            if found is not None:
                if words := demand(self._tools, run, kind, found):
                    accepted.append(f"ACCEPTED: {read_found(found).text}; {words}")
                checked += format_comparison(found)
        objects = find_result(runs, run, CompareObjectsStep) if plan.has(CompareObjectsStep) else None
        if objects is not None:
            if words := demand(self._tools, run, CompareObjectsStep, objects):
                accepted.append(f"ACCEPTED: {read_found(objects).text}; {words}")
            checked.append(f"{objects.compared.compared} objects are as planned")
            if objects.compared.verified is None:
                checked.append("others could not be compared: they are too large to be read here")
        return RestoredResult(checked=(*checked, *accepted), accepted=tuple(accepted))


class Open(Action[OpenStep, OpenResult]):
    """Step `recover_open`: every role can again what it could, and the application's writes once; both read back."""

    arguments = OpenStep

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: OpenStep, context: StepContext) -> OpenResult:
        """Return since when it is open, and for how long it was not.

        Raises:
            BackoutError: the fence still stands, or the application cannot write.
        """
        fence, run = get_fence(self._tools), context.run
        mark, told = read_own_fence(self._tools, run), context.last_progress()
        if told is None:  # a kill right behind the opening leaves at least this
            context.progress({MAY_OPEN: self._tools.tools.clock.now()})
        if mark is not None:
            fence.open(mark)
        if read_own_fence(self._tools, run) is not None:
            raise BackoutError("the fence still stands", where=self._tools.tools.environment)
        raised, at = find_result(self._tools.tools.runs, run, FenceStep), self._note_open(context)
        return OpenResult(at=at, stood_s=None if raised is None else at - raised.at, wrote=self._try_write(run))

    def _note_open(self, context: StepContext) -> float:
        """Note that roles are let in, whatever the trial write shows, and return since when: of the first attempt."""
        told = context.last_progress()
        if told is not None and IS_OPEN in told:
            return decode_values(told[IS_OPEN], float)
        now = self._tools.tools.clock.now()
        context.progress({IS_OPEN: now})
        return now

    def _try_write(self, run: str) -> str:
        """Return what one write showed. Raises BackoutError: the application cannot write to what was restored."""
        commits, box = self._tools.commits, self._tools.tools
        if commits is None:
            return "whether the application can write was not tried: its connection string is not known here"
        try:
            role = commits.commit_once()
        except BackoutError as error:
            what = f"the application cannot write, although the fence is gone: {error.what}"
            if find_plan(box.runs, run).arguments(RecoverReportStep).undoes:  # what was there before, be it well or not
                return what
            raise BackoutError(f"{what}; {_ACCEPTED}", where=box.environment) from error
        return f"role {role} committed one write, which another session read back"


class ProveTarget(Action[ProveTargetStep, ProveTargetResult]):
    """Step `recover_prove`: the target answers well at 0 %, on the restored database; its requests may write."""

    arguments = ProveTargetStep
    effect = False

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: ProveTargetStep, context: StepContext) -> ProveTargetResult:
        """Return whether it does. Raises BackoutError: it does not."""
        tools, run = self._tools.tools, context.run
        placed = find_result(tools.runs, run, PlaceStep)
        assert placed is not None
        live = find_live(tools, run, tools.deployments.history())
        if live.main == placed.version:
            return ProveTargetResult(version=placed.version, proved=None, why="it is live, so it is watched instead")
        serving = [str(share.version) for share in live.shares if live.serves(share.version)]
        asked = ask(tools, placed.version, leaving=live.main, serving=serving, known_as=placed.code_of)
        if asked.ok is False and args.demanded:
            raise BackoutError(
                f"version {placed.version} does not answer well at 0 %: {asked.why}",
                where=tools.environment,
                hint=f"backout recover --undo -e {tools.environment}  # or mend it, and resume",
            )
        return ProveTargetResult(version=placed.version, proved=asked.ok, why=asked.why)


class GoLive(Action[GoLiveStep, ReadBackResult]):
    """Step `recover_go_live` {version, leaving, bad, force}: users are served again; read back from the provider."""

    arguments = GoLiveStep

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: GoLiveStep, context: StepContext) -> ReadBackResult:
        """Return the deployment. Raises BackoutError: something else is live."""
        tools, run = self._tools.tools, context.run
        found = self._find_done(run)
        if found is not None:
            return found
        placed = find_result(tools.runs, run, PlaceStep)
        assert placed is not None
        history = tools.deployments.history()
        live = find_live(tools, run, history)
        if live.sole != placed.version or history[0].hosts:
            message = make_message(tools, self._make_remark(args, run), history[0])
            try:
                tools.deployments.activate(placed.version, message=message, force=args.force)
            except ProviderUnavailable:
                if self._find_done(run) is None:
                    raise
        return self._read_back(placed.version, run)

    def probe(self, args: GoLiveStep, context: StepContext) -> Probe[ReadBackResult]:
        """Look whether the target is live."""
        found = self._find_done(context.run)
        return NotDone() if found is None else Done(found)

    def _make_remark(self, args: GoLiveStep, run: str) -> Remark:
        tools, why = self._tools.tools, find_plan(self._tools.tools.runs, run).why
        if not args.bad:
            return Remark(RemarkKind.SECRETS, run, text=why)
        return Remark(RemarkKind.ROLLBACK, run, code=Code.of(tools.versions.detail(args.leaving)), text=why)

    def _find_done(self, run: str) -> ReadBackResult | None:
        tools = self._tools.tools
        placed = find_result(tools.runs, run, PlaceStep)
        if placed is None:
            return None
        history = tools.deployments.history()
        live = find_underneath(history)
        return self._note(live, run) if live.sole == placed.version and not history[0].hosts else None

    def _read_back(self, version: str, run: str) -> ReadBackResult:
        tools = self._tools.tools
        history = tools.deployments.history()
        made = history[0].id
        history = await_listed(tools, made)
        check_on_every_host(tools, history[0])
        live = find_underneath(history)
        if live.sole != version:
            raise BackoutError(f"the provider says that version {live.main} is live, not {version}")
        return self._note(live, run)

    def _note(self, live: Deployment, run: str) -> ReadBackResult:
        tools = self._tools.tools
        at = live.created_at
        note_opened(tools, run, at)
        return make_read_back(tools, live)


class Resume(Action[ResumeStep, PauseResult]):
    """Step `recover_resume` {queues, schedules, caches}: queues first, then schedules, and the caches as they were."""

    arguments = ResumeStep

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: ResumeStep, context: StepContext) -> PauseResult:
        """Return what goes on, as read back. Raises BackoutError: something does not."""
        start_again(self._tools.tools, args.queues, args.schedules, args.caches)
        names = tuple(each.name for each in args.caches)
        return PauseResult(queues=args.queues, schedules=args.schedules or (), caches=names)


def start_again(
    tools: Toolbox, names: Sequence[str], schedules: Sequence[str] | None, stopped: Sequence[CacheRecord]
) -> None:
    """Let queues deliver, then schedules run, then caches be as they were. Raises BackoutError: one does not."""
    queues, caches, triggers = tools.platform.queues, tools.platform.read_caches, tools.rollback.triggers
    if names and queues is not None:
        for name in names:
            queues.resume(name)
        delivering = {each.name for each in queues.list_consumed() if each.delivers}
        if missing := sorted({*names} - delivering):
            raise BackoutError(f"queues do not deliver again: {', '.join(missing)}", where=tools.environment)
    if schedules and triggers is not None:
        triggers.set_schedules(schedules)
        if sorted(triggers.read((TriggerKind.SCHEDULES,)).schedules or ()) != sorted(schedules):
            raise BackoutError("the schedules are not as they were", where=tools.environment)
    if stopped and caches is not None:
        wanted = [make_cache_state(cache) for cache in stopped]
        for each in wanted:
            caches.restore(each)
        now = {each.id: each for each in caches.read()}
        if left := [each.name for each in wanted if not (found := now.get(each.id)) or not found.is_on]:
            raise BackoutError(f"caches are not on again: {', '.join(left)}", where=tools.environment)


def make_cache_state(cache: CacheRecord) -> CacheState:
    """Return a cache as it was before it was stopped."""
    return CacheState(cache.id, cache.name, is_on=True, max_age_s=cache.max_age_s, stale_s=cache.stale_s)
