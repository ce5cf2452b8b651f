"""The whole comes back from a backup that is not signed only as the copy that lay under a side instance before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kept import template
from recovery_lab import Lab, PlainBackups, opened
from values import replace

from backout.errors import Refused
from backout.model.incident.incident import RunState
from backout.providers.postgres.restore.wal_search import WalSearch
from backout.runbook.recovery.restore import plan_side, plan_swap, plan_undo
from backout.runbook.recovery.tools import Accepted
from backout.runbook.recovery.unsigned import check_plan, read_accepted, record_proved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backout.model.database.recovery import BaseBackup
    from backout.runbook.recovery.tools import RestoreTools


class Unsigned(PlainBackups):
    """The lab's backups, none of them signed; `lays_out` as the repository takes it."""

    lays_out = True

    def backups(self) -> tuple[BaseBackup, ...]:
        return tuple(replace(each, unsigned=True) for each in super().backups())

    def unpack(self, backup: str, into: Path, progress: Callable[[int, int], None]) -> None:
        if not self.lays_out:
            raise Refused("it is not signed, and no copy of it was proved here", where=backup)
        super().unpack(backup, into, progress)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("unsigned"), template()) as made:
        yield made


def tools(lab: Lab, *, to_side: bool) -> RestoreTools:
    backups = Unsigned(lab.backups.root)
    backups.lays_out = to_side
    sides = lab.make_sides(backups)
    wal = WalSearch(lab.binaries, backups, lab.root / "restore" / "wal")
    more: dict[str, Any] = {"backups": backups, "sides": sides, "beside": sides, "bases": sides, "wal": wal}
    return lab.tools(**more, accepted=Accepted(("older",), to_side=to_side))


def test_a_swap_moves_in_the_copy_that_was_proved(lab: Lab) -> None:
    """Refused before; the step is, too, when nothing lies here; then the base as it lay under the side instance."""
    lab.base("older")
    with lab.connect() as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    position = str(lab.rows("SELECT pg_current_wal_insert_lsn()::text")[0][0])
    with lab.connect() as connection:
        connection.execute("DROP TABLE kept")
    lab.archived()
    swapping, looking = tools(lab, to_side=False), tools(lab, to_side=True)
    plan = plan_swap(swapping, position)
    assert read_accepted(plan) == Accepted(("older",), to_side=False)
    with pytest.raises(Refused, match="goes to a side instance before") as refused:
        check_plan(swapping, plan)
    assert "--side --accept-unsigned older" in str(refused.value.hint)
    with pytest.raises(Refused, match="no copy of it was proved here"):
        lab.run(plan, swapping)
    side = plan_side(looking, position)
    assert read_accepted(side) == Accepted(("older",), to_side=True)
    check_plan(looking, side)
    run = lab.run(side, looking)
    record_proved(looking, side, run.id)
    looking.sides.drop(str(side.step("db_side").args["name"]))
    plan = plan_swap(swapping, position)
    check_plan(swapping, plan)
    assert lab.run(plan, swapping).state is RunState.DONE
    assert lab.rows("SELECT n FROM kept") == [(7,)]
    assert lab.run(plan_undo(swapping), swapping).state is RunState.DONE
    assert lab.rows("SELECT count(*) FROM pg_class WHERE relname = 'kept'") == [(0,)]
