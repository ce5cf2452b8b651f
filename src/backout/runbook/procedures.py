"""Every step's action by its name in plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from backout.ports import AnyAction
from backout.runbook.probing.pre_promotion import Prove
from backout.runbook.rollback.activate import Activate, ReadBack, SetMark, StillLive

if TYPE_CHECKING:
    from backout.runbook.toolbox import Toolbox


def _verify(tools: Toolbox) -> AnyAction:
    from backout.runbook.probing.verify import Verify

    return Verify(tools)


def _make_report(tools: Toolbox) -> AnyAction:
    from backout.runbook.incident.report import WriteReport

    return WriteReport(tools)


def _make_watch(tools: Toolbox) -> AnyAction:
    from backout.runbook.guard.guard import Watch

    return Watch(tools)


def _conclude(tools: Toolbox) -> AnyAction:
    from backout.runbook.guard.conclude import Conclude

    return Conclude(tools)


def _make_restore_schedules(tools: Toolbox) -> AnyAction:
    from backout.runbook.rollback.triggers import RestoreSchedules

    return RestoreSchedules(tools)


def _make_stop_jobs(tools: Toolbox) -> AnyAction:
    from backout.runbook.rollback.jobs import StopJobs

    return StopJobs(tools)


def _make_start_jobs(tools: Toolbox) -> AnyAction:
    from backout.runbook.rollback.jobs import StartJobs

    return StartJobs(tools)


def _settle(tools: Toolbox) -> AnyAction:
    from backout.runbook.rollback.finalize import Settle

    return Settle(tools)


def _make_ramp(tools: Toolbox) -> AnyAction:
    from backout.runbook.guard.ramp import Ramp

    return Ramp(tools)


def _make_watch_on(tools: Toolbox) -> AnyAction:
    from backout.runbook.guard.ramp import WatchOn

    return WatchOn(tools)


def _push_secrets(tools: Toolbox) -> AnyAction:
    from backout.runbook.secrets.push import PushSecrets

    return PushSecrets(tools)


def _read_secrets(tools: Toolbox) -> AnyAction:
    from backout.runbook.secrets.push import ReadSecrets

    return ReadSecrets(tools)


def _verify_health(tools: Toolbox) -> AnyAction:
    from backout.runbook.secrets.push import VerifyHealth

    return VerifyHealth(tools)


def _make_fall_back(tools: Toolbox) -> AnyAction:
    from backout.runbook.secrets.remediation import FallBack

    return FallBack(tools)


def _roll_forward(name: str) -> Callable[[Toolbox], AnyAction]:
    def make_action(tools: Toolbox) -> AnyAction:
        from backout.runbook.rollback import roll_forward

        action: AnyAction = getattr(roll_forward, name)(tools)
        return action

    return make_action


_FACTORIES: Mapping[str, Callable[[Toolbox], AnyAction]] = {
    "prove": Prove,
    "still_live": StillLive,
    "activate": Activate,
    "read_back": ReadBack,
    "restore_schedules": _make_restore_schedules,
    "stop_jobs": _make_stop_jobs,
    "start_jobs": _make_start_jobs,
    "mark": SetMark,
    "verify": _verify,
    "report": _make_report,
    "settle": _settle,
    "watch": _make_watch,
    "conclude": _conclude,
    "push_secrets": _push_secrets,
    "read_secrets": _read_secrets,
    "verify_health": _verify_health,
    "fall_back": _make_fall_back,
    "ramp": _make_ramp,
    "watch_on": _make_watch_on,
    "check_migrations": _roll_forward("CheckMigrations"),
    "deploy": _roll_forward("Deploy"),
    "read_new": _roll_forward("ReadNew"),
    "check_head": _roll_forward("CheckHead"),
    "settle_forward": _roll_forward("SettleForward"),
}


class Actions(Mapping[str, AnyAction]):
    """The actions of one environment, made on demand.

    A rollback that does not wait needs none of the statistics, and most of a rollback's cost is start-up.

    Args:
        others: actions of another procedure whose steps are in the same plan.
    """

    def __init__(self, tools: Toolbox, others: Mapping[str, AnyAction] | None = None) -> None:
        self._tools = tools
        self._others = others or {}

    def __getitem__(self, name: str) -> AnyAction:
        """Return the action of that name; KeyError for a name that no plan of this version uses."""
        return self._others[name] if name in self._others else _FACTORIES[name](self._tools)

    def __contains__(self, name: object) -> bool:
        """Whether there is such an action (without making it)."""
        return name in self._others or name in _FACTORIES

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter((*self._others, *_FACTORIES))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._others) + len(_FACTORIES)
