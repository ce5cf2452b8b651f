"""A complete recovery with a real Postgres, its archive and its fence; the platform and the bucket are a World's."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kept import template
from recovery_lab import opened
from recovery_night import RealNight
from recovery_story import SECRETS, recover, take_back
from values import replace

from backout.model.incident.incident import RunState
from backout.model.steps.recovery import FenceStep, OpenStep
from backout.model.steps.rescue import RescueStep
from backout.model.steps.restore import ExchangeStep
from backout.providers.child import find_free_ports, find_unprivileged_prefix
from backout.runbook.recover.outcome import read_outcome
from backout.runbook.recover.prepare import RecoverAsk, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recovery_lab import Lab

    from backout.model.incident.incident import Run
    from backout.ports import Rescuer
    from backout.runbook.toolbox import Toolbox

ROLE = "SELECT rolcanlogin, rolconnlimit, shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = 'app'"


def read_kept(lab: Lab) -> set[str]:
    """Return the rows in the data directory that the exchange kept, as a server of its own shows them."""
    (kept,) = lab.data.parent.glob("data.backout-old-*")
    port = find_free_ports(1)[0]
    options = f"-c port={port} -c listen_addresses= -c unix_socket_directories={lab.sockets}"
    control = (*find_unprivileged_prefix(), lab.binaries.path("pg_ctl"), "-D", str(kept), "-w")
    subprocess.run((*control, "-l", str(lab.root / "kept.log"), "-o", options, "start"), check=True)
    try:
        with psycopg.connect(f"host={lab.sockets} port={port} user=postgres dbname=postgres") as session:
            return {str(name).removesuffix(" spoiled") for (name,) in session.execute("SELECT name FROM orders")}
    finally:
        subprocess.run((*control, "-m", "fast", "stop"), check=True)


def find_end(box: Toolbox, run: Run, action: str, kind: str = "step.ok") -> float:
    """Return when a step of a run ended, in Unix seconds."""
    place = next(number for number, step in enumerate(run.plan.steps) if step.action == action)
    return next(event.at for event in box.journal.events(run=run.id, kind=kind) if event.step == place)


def find_begin(box: Toolbox, run: Run, action: str) -> float:
    """Return when a step of a run began, in Unix seconds."""
    return find_end(box, run, action, "step.start")


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("recover"), template(), templates=True) as made:
        yield made


@pytest.mark.rotating("recoveries", 5)
@pytest.mark.long
def test_everything_goes_back_and_no_acknowledged_write_is_lost(lab: Lab, tmp_path: Path) -> None:
    """The ledger of an application that connects every 10 ms tells: before, between, and after."""
    night = RealNight(tmp_path, lab=lab)
    role = lab.rows(ROLE)
    with night.writer:
        time.sleep(0.5)
        run = recover(night.tools())
        time.sleep(0.5)
    assert run.state is RunState.DONE
    box = night.tools().tools
    found = read_outcome(box, run)
    fenced_at = find_end(box, run, FenceStep.action)
    assert found.opened is not None
    rows, ledger = set(night.server.rows()), night.writer.ledger
    before, between, after = (
        {name for name, at in ledger if at < night.marked[0]},
        {name for name, at in ledger if night.marked[1] < at <= fenced_at},
        {name for name, at in ledger if at > fenced_at},
    )
    assert before <= rows
    assert between
    assert not between & rows
    assert between <= read_kept(lab), "readable from the undo point"
    assert after
    assert after <= rows, "written after it was opened"
    assert min(at for _, at in ledger if at > fenced_at) > find_begin(box, run, OpenStep.action), "through the fence"
    assert lab.rows(ROLE) == role
    assert lab.rows("SELECT count(*) FROM orders WHERE total IS NULL") == [(0,)]
    assert night.bucket.live() == night.then
    assert night.world.builds[night.world.live.main].secrets == SECRETS
    assert found.rows is not None
    assert found.rows["public.orders"] >= len(between)
    (lost,) = found.lost
    assert (lost.table, lost.key) == ("public.orders", ("id",))
    assert lost.inserts >= len(between)
    assert len(lost.inserted) == min(lost.inserts, 1000)
    assert found.fenced_s is not None
    assert found.rto_s is not None
    assert found.fenced_s < found.rto_s


@pytest.mark.rotating("recoveries", 5)
@pytest.mark.long
def test_where_damaged_rows_are_enough_everything_written_since_stays(lab: Lab, tmp_path: Path) -> None:
    """The transaction that did the damage is named: its rows come back, and no acknowledged write is lost at all."""
    night = RealNight(tmp_path, lab=lab)
    ask = RecoverAsk("night", damage=night.xid)
    plan = prepare(night.tools(), ask)
    assert plan.has(RescueStep)
    assert not plan.has(ExchangeStep)
    assert any(note.startswith("the last way is to exchange the whole (--swap)") for note in plan.notes)
    with night.writer:
        time.sleep(0.5)
        run = recover(night.tools(), ask)
        time.sleep(0.5)
    assert run.state is RunState.DONE
    box = night.tools().tools
    fenced_at, opened_at = find_end(box, run, FenceStep.action), find_begin(box, run, OpenStep.action)
    ledger = night.writer.ledger
    assert {name for name, _ in ledger} <= set(night.server.rows())
    assert not [name for name, at in ledger if fenced_at < at < opened_at]
    assert lab.rows("SELECT count(*) FROM orders WHERE name LIKE '% spoiled'") == [(0,)]
    assert night.bucket.live() == night.then
    assert read_outcome(box, run).rows is None


class Died(BaseException):
    """The process dies here: nothing of ours may catch it."""


class Dying:
    """A rescuer whose process dies when it begins, when it has written something, or when it has written all."""

    def __init__(self, rescuer: Rescuer, when: str) -> None:
        self._rescuer = rescuer
        self._when = when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rescuer, name)

    def rescue(self, damage: Any, before: str, after: str, kept: Path, progress: Any, **more: Any) -> Any:
        def hear(*told: Any) -> None:
            progress(*told)
            if self._when == "on its way" and any(kept.glob("*.json")):
                raise Died

        if self._when == "when it begins":
            raise Died
        self._rescuer.rescue(damage, before, after, kept, hear, **more)
        raise Died


@pytest.mark.rotating("recoveries", 5)
@pytest.mark.long
@pytest.mark.parametrize("when", ["when it begins", "on its way", "at its end"])
def test_a_rescue_that_died_is_taken_back(lab: Lab, tmp_path: Path, when: str) -> None:
    """Everything is as before the recovery, the damage included, and no acknowledged write is lost."""
    night = RealNight(tmp_path, lab=lab)
    spoiled = "SELECT count(*) FROM orders WHERE name LIKE '% spoiled'"
    damaged, objects = lab.rows(spoiled), night.bucket.live()
    tools = night.tools()
    assert tools.restoring is not None
    made = tools.restoring.rescuer
    dying = replace(tools, restoring=replace(tools.restoring, rescuer=lambda database: Dying(made(database), when)))
    with night.writer:
        time.sleep(0.5)
        with pytest.raises(Died):
            recover(dying, RecoverAsk("night", damage=night.xid))
        assert not night.writer.write("through the fence")
        undone = take_back(night.tools())
        time.sleep(0.5)
    assert undone is not None
    assert undone.state is RunState.DONE
    rows = {name.removesuffix(" spoiled") for name in night.server.rows()}
    assert {name for name, _ in night.writer.ledger} <= rows
    assert lab.rows(spoiled) == damaged
    assert lab.rows("SELECT count(*) FROM information_schema.columns WHERE column_name = 'total'") == [(0,)]
    assert night.world.live.sole == night.bad.id
    assert night.bucket.live() == objects
    assert night.writer.write("once it was taken back")
