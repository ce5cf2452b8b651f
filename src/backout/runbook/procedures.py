"""Every step's action by its name in plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from backout.ports import Action
from backout.runbook.activate import Activate, ReadBack, SetMark, StillLive
from backout.runbook.prove import Prove

if TYPE_CHECKING:
    from backout.runbook.toolbox import Toolbox


def _verify(tools: Toolbox) -> Action:
    from backout.runbook.verify import Verify  # noqa: PLC0415

    return Verify(tools)


def _report(tools: Toolbox) -> Action:
    from backout.runbook.incident import WriteReport  # noqa: PLC0415

    return WriteReport(tools)


def _watch(tools: Toolbox) -> Action:
    from backout.runbook.guard import Watch  # noqa: PLC0415

    return Watch(tools)


def _conclude(tools: Toolbox) -> Action:
    from backout.runbook.conclude import Conclude  # noqa: PLC0415

    return Conclude(tools)


def _restore_schedules(tools: Toolbox) -> Action:
    from backout.runbook.triggers import RestoreSchedules  # noqa: PLC0415

    return RestoreSchedules(tools)


def _settle(tools: Toolbox) -> Action:
    from backout.runbook.settle import Settle  # noqa: PLC0415

    return Settle(tools)


def _ramp(tools: Toolbox) -> Action:
    from backout.runbook.ramp import Ramp  # noqa: PLC0415

    return Ramp(tools)


def _watch_on(tools: Toolbox) -> Action:
    from backout.runbook.ramp import WatchOn  # noqa: PLC0415

    return WatchOn(tools)


def _push_secrets(tools: Toolbox) -> Action:
    from backout.runbook.push import PushSecrets  # noqa: PLC0415

    return PushSecrets(tools)


def _read_secrets(tools: Toolbox) -> Action:
    from backout.runbook.push import ReadSecrets  # noqa: PLC0415

    return ReadSecrets(tools)


def _verify_health(tools: Toolbox) -> Action:
    from backout.runbook.push import VerifyHealth  # noqa: PLC0415

    return VerifyHealth(tools)


def _fall_back(tools: Toolbox) -> Action:
    from backout.runbook.mending import FallBack  # noqa: PLC0415

    return FallBack(tools)


def _roll_forward(name: str) -> Callable[[Toolbox], Action]:
    def made(tools: Toolbox) -> Action:
        from backout.runbook import roll_forward  # noqa: PLC0415

        action: Action = getattr(roll_forward, name)(tools)
        return action

    return made


_FACTORIES: Mapping[str, Callable[[Toolbox], Action]] = {
    "prove": Prove,
    "still_live": StillLive,
    "activate": Activate,
    "read_back": ReadBack,
    "restore_schedules": _restore_schedules,
    "mark": SetMark,
    "verify": _verify,
    "report": _report,
    "settle": _settle,
    "watch": _watch,
    "conclude": _conclude,
    "push_secrets": _push_secrets,
    "read_secrets": _read_secrets,
    "verify_health": _verify_health,
    "fall_back": _fall_back,
    "ramp": _ramp,
    "watch_on": _watch_on,
    "check_migrations": _roll_forward("CheckMigrations"),
    "deploy": _roll_forward("Deploy"),
    "read_new": _roll_forward("ReadNew"),
    "check_head": _roll_forward("CheckHead"),
    "settle_forward": _roll_forward("SettleForward"),
}


class Actions(Mapping[str, Action]):
    """The actions of one environment, made when asked for.

    A rollback that does not wait needs none of the statistics, and start-up is most of what a rollback costs.

    Args:
        others: actions of another procedure whose steps stand in the same plan.
    """

    def __init__(self, tools: Toolbox, others: Mapping[str, Action] | None = None) -> None:
        self._tools = tools
        self._others = others or {}

    def __getitem__(self, name: str) -> Action:
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
