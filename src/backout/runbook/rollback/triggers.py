"""What starts the application besides requests: stored for each version, compared and restored (safety rule 16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.attached import choose_attached
from backout.analysis.coverage import choose_kinds
from backout.errors import AuthError, BackoutError, ProviderRejected
from backout.model.attached import Attached
from backout.model.steps.base import to_json
from backout.model.steps.rollback import RestoreSchedulesResult, RestoreSchedulesStep
from backout.model.triggers import TriggerKind, Triggers
from backout.ports import Action, Done, NotDone
from backout.runbook.probing.pre_promotion import find_chosen
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.analysis.coverage import Way
    from backout.model.plan import Json
    from backout.model.situation import Situation
    from backout.model.version import Version
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox

_CHECKPOINT = "triggers"
_VERSIONS = 100
"""So many versions are remembered, the newest look last: in one entry, which each look renews, so that pruning what is
old never takes what a stable version needs."""


def read_triggers(tools: Toolbox, kinds: Collection[TriggerKind] = tuple(TriggerKind)) -> Triggers | None:
    """Return what starts the application now, None if none of it can be read; a failure here stops nothing."""
    if tools.rollback.triggers is None:
        return None
    try:
        return tools.rollback.triggers.read(kinds)
    except BackoutError:
        return None


def read_snapshots(tools: Toolbox) -> dict[str, Triggers]:
    """Return what started the application when each version was live, by version id."""
    if tools.rollback.triggers is None:
        return {}
    saved = tools.checkpoints.load_checkpoint(tools.environment, _CHECKPOINT)
    return {version: parse_triggers(data) for version, data in saved.items()} if isinstance(saved, dict) else {}


def remember(tools: Toolbox, version: str, triggers: Triggers | None) -> None:
    """Store what starts the application while this version is live; unknown kinds keep their earlier values."""
    if triggers is None:
        return
    before = read_snapshots(tools)
    newest = triggers.over(before.pop(version, Triggers()))
    kept = [*before.items(), (version, newest)][-_VERSIONS:]
    tools.checkpoints.save_checkpoint(
        tools.environment, _CHECKPOINT, {name: to_json(each.list_known()) for name, each in kept}
    )


def add_triggers(tools: Toolbox, situation: Situation, way: Way) -> Situation:
    """Return the situation with what starts the application now, and what did when each version was live."""
    if tools.rollback.triggers is None:
        return situation
    versions = () if way.quick else (situation.version(way.target), situation.version(way.leaving))
    return replace(
        situation,
        triggers=read_triggers(tools, choose_kinds(situation, way)),
        attached=read_attached(tools, versions),
        snapshots=read_snapshots(tools),
    )


def read_attached(tools: Toolbox, versions: Collection[Version | None]) -> Attached | None:
    """Return what runs or deploys beside these versions, None if they have nothing of it; a failure stops nothing."""
    kinds = choose_attached(versions)
    if tools.rollback.attachments is None or not kinds:
        return None
    try:
        return tools.rollback.attachments.read(kinds)
    except BackoutError as error:
        return Attached(unread=dict.fromkeys(kinds, error.what))


def parse_triggers(data: Json) -> Triggers:
    """Return the triggers that `Triggers.list_known` told."""
    known = data if isinstance(data, dict) else {}
    return Triggers(**{str(kind): _get_texts(known.get(kind)) for kind in TriggerKind})


def _get_texts(value: Json) -> tuple[str, ...] | None:
    return tuple(str(each) for each in value) if isinstance(value, list) else None


class RestoreSchedules(Action[RestoreSchedulesStep, RestoreSchedulesResult]):
    """Step `restore_schedules` {version, schedules}: the schedules of when the target was live; never automatic.

    A provider's refusal does not stop the rollback: the traffic has moved, and what is left to do is reported.
    """

    arguments = RestoreSchedulesStep

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: RestoreSchedulesStep, context: StepContext) -> RestoreSchedulesResult:
        """Return {restored, schedules, before, why}, as read back."""
        tools = self._tools
        check_identity(tools)
        wanted = self._find_wanted(args, context.run)
        if tools.rollback.triggers is None or wanted is None:
            return self._left("the schedules of the version that is live now are not known")
        try:
            before = tools.rollback.triggers.read((TriggerKind.SCHEDULES,)).schedules
            if before != wanted:
                tools.rollback.triggers.set_schedules(wanted)
            now = tools.rollback.triggers.read((TriggerKind.SCHEDULES,)).schedules
        except (AuthError, ProviderRejected) as error:
            return self._left(str(error))
        if now != wanted:
            return self._left(
                f"after setting them the provider says {_format_schedules(now)}, not {_format_schedules(wanted)}"
            )
        return RestoreSchedulesResult(restored=True, schedules=wanted, before=before)

    def probe(self, args: RestoreSchedulesStep, context: StepContext) -> Probe[RestoreSchedulesResult]:
        """The present schedules tell whether it is done; setting them again changes nothing."""
        wanted = self._find_wanted(args, context.run)
        now = read_triggers(self._tools, (TriggerKind.SCHEDULES,))
        if wanted is not None and now is not None and now.schedules == wanted:
            return Done(RestoreSchedulesResult(restored=True, schedules=wanted, before=None))
        return NotDone()

    def _find_wanted(self, args: RestoreSchedulesStep, run: str) -> tuple[str, ...] | None:
        """Return the schedules of the version that this run made live, which may not be the planned one."""
        version = find_chosen(self._tools, run, args.version)
        if version == args.version:
            return args.schedules
        found = read_snapshots(self._tools).get(version)
        return found.schedules if found else None

    def _left(self, why: str) -> RestoreSchedulesResult:
        self._tools.say(f"the schedules were not restored: {why}")
        return RestoreSchedulesResult(restored=False, schedules=None, before=None, why=why)


def _format_schedules(schedules: tuple[str, ...] | None) -> str:
    return "nothing" if schedules is None else ", ".join(schedules) or "none"
