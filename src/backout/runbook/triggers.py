"""What starts the application beside requests: remembered for each version, compared and restored (safety rule 16)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backout.analysis.coverage import kinds_to_read
from backout.errors import AuthError, BackoutError, ProviderRejected
from backout.model.triggers import TriggerKind, Triggers
from backout.ports import Done, NotDone
from backout.runbook.identity import check_identity
from backout.runbook.prove import chosen

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from backout.analysis.coverage import Way
    from backout.model.plan import Json
    from backout.model.situation import Situation
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox

_CHECKPOINT = "triggers"
_VERSIONS = 100
"""So many versions are remembered, the newest look last: in one entry, which each look renews, so that pruning what is
old never takes what a stable version needs."""


def look(tools: Toolbox, kinds: Collection[TriggerKind] = tuple(TriggerKind)) -> Triggers | None:
    """Return what starts the application now, None when nothing of it can be read; no trouble here stops anything."""
    if tools.triggers is None:
        return None
    try:
        return tools.triggers.read(kinds)
    except BackoutError:
        return None


def snapshots(tools: Toolbox) -> dict[str, Triggers]:
    """Return what started the application when each version was live, by version id."""
    if tools.triggers is None:
        return {}
    saved = tools.checkpoints.load_checkpoint(tools.environment, _CHECKPOINT)
    return {version: told(data) for version, data in saved.items()} if isinstance(saved, dict) else {}


def remember(tools: Toolbox, version: str, triggers: Triggers | None) -> None:
    """Keep what starts the application while this version is live; kinds that are not known keep what was known."""
    if triggers is None:
        return
    before = snapshots(tools)
    newest = triggers.over(before.pop(version, Triggers()))
    kept = [*before.items(), (version, newest)][-_VERSIONS:]
    tools.checkpoints.save_checkpoint(tools.environment, _CHECKPOINT, {name: each.known() for name, each in kept})


def with_triggers(tools: Toolbox, situation: Situation, way: Way) -> Situation:
    """Return the situation with what starts the application now, and what did when each version was live."""
    if tools.triggers is None:
        return situation
    return replace(situation, triggers=look(tools, kinds_to_read(situation, way)), snapshots=snapshots(tools))


def told(data: Json) -> Triggers:
    """Return the triggers that `Triggers.known` told."""
    known = data if isinstance(data, dict) else {}
    return Triggers(**{str(kind): _texts(known.get(kind)) for kind in TriggerKind})


def _texts(value: Json) -> tuple[str, ...] | None:
    return tuple(str(each) for each in value) if isinstance(value, list) else None


class RestoreSchedules:
    """Step `restore_schedules` {version, schedules}: the schedules of when the target was live; never automatic.

    A provider that says no does not stop the rollback: the traffic has moved, and what is left to do is said.
    """

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {restored, schedules, before, why}, as read back."""
        tools = self._tools
        check_identity(tools)
        wanted = self._wanted(args, context.run)
        if tools.triggers is None or wanted is None:
            return self._left("nobody knows the schedules of the version that is live now")
        try:
            before = tools.triggers.read((TriggerKind.SCHEDULES,)).schedules
            if before != wanted:
                tools.triggers.set_schedules(wanted)
            now = tools.triggers.read((TriggerKind.SCHEDULES,)).schedules
        except (AuthError, ProviderRejected) as error:
            return self._left(str(error))
        if now != wanted:
            return self._left(f"after setting them the provider says {_shown(now)}, not {_shown(wanted)}")
        return {"restored": True, "schedules": list(wanted), "before": None if before is None else list(before)}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """The schedules as they are now say whether it is done; setting them again changes nothing more."""
        wanted = self._wanted(args, context.run)
        now = look(self._tools, (TriggerKind.SCHEDULES,))
        if wanted is not None and now is not None and now.schedules == wanted:
            return Done({"restored": True, "schedules": list(wanted), "before": None})
        return NotDone()

    def _wanted(self, args: Mapping[str, Json], run: str) -> tuple[str, ...] | None:
        """Return the schedules of the version that this run made live, which need not be the one that was planned."""
        version = chosen(self._tools, run, args)
        if version == args["version"]:
            return _texts(args["schedules"])
        found = snapshots(self._tools).get(version)
        return found.schedules if found else None

    def _left(self, why: str) -> Json:
        self._tools.say(f"the schedules were not restored: {why}")
        return {"restored": False, "schedules": None, "before": None, "why": why}


def _shown(schedules: tuple[str, ...] | None) -> str:
    return "nothing" if schedules is None else ", ".join(schedules) or "none"
