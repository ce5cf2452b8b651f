"""The steps of a restore; each can be repeated after a crash, and says from the world alone whether it happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.plan.whole import AGREED
from backout.runbook.also_steps import SEQUENCES, CarrySequences, CheckAlso
from backout.runbook.comparison_steps import CompareRows, NoteNewer
from backout.runbook.copy_steps import COMPARE_COPY, NOTE_COPIES, CompareCopy, NoteCopies
from backout.runbook.rescue_steps import CheckRescue, Rescue, UndoRescue, damage_of, several_in
from backout.runbook.several import Following
from backout.runbook.side_steps import CheckSide, DropSides, MakeSide, OpenSide, Promote, order_of
from backout.runbook.swap_steps import Exchange, ReadBack, StartServer, StopServer

if TYPE_CHECKING:
    from backout.model.plan import Plan
    from backout.model.rescue import RescueReport
    from backout.ports import Action
    from backout.runbook.restore import RestoreTools


def actions(tools: RestoreTools) -> dict[str, Action]:
    """Return every step's action by its name in plans."""
    following = Following(tools)
    return {
        "db_side": MakeSide(tools),
        "db_side_check": CheckSide(tools),
        "db_side_open": OpenSide(tools),
        "db_promote": Promote(tools),
        AGREED: CheckAlso(tools),
        SEQUENCES: CarrySequences(tools),
        "db_stop_server": StopServer(tools),
        "db_exchange": Exchange(tools),
        "db_start_server": StartServer(tools),
        "db_read_back": ReadBack(tools),
        NOTE_COPIES: NoteCopies(tools),
        COMPARE_COPY: CompareCopy(tools),
        "db_note_newer": NoteNewer(tools),
        "db_compare": CompareRows(tools),
        "db_rescue": Rescue(tools, following),
        "db_rescue_check": CheckRescue(tools, following),
        "db_undo_rescue": UndoRescue(tools),
        "db_drop_sides": DropSides(tools),
    }


def foresee(tools: RestoreTools, plan: Plan) -> RescueReport:
    """Return what the plan of a rescue would write, by table; only side instances are made, and removed again."""
    rescue = plan.step("db_rescue")
    names = [str(rescue.args["before"]), str(rescue.args["after"])]
    try:
        for step in plan.steps:
            if step.action == "db_side":
                tools.sides.start(order_of(step.args), _silent)
        dsns = []
        for name in names:
            tools.beside.promote(name)
            side = tools.sides.find(name)
            dsns.append(side.dsn if side is not None else "")
        damage = Following(tools).completed(damage_of(rescue.args), several_in(rescue.args), _silent)
        return tools.rescuer(str(rescue.args["database"])).damage(damage, *dsns)
    finally:
        for name in names:
            tools.sides.drop(name)


def _silent(_doing: str, _done: int, _whole: int) -> None:
    """Progress that nobody watches."""
