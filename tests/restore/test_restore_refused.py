"""What is wrong with the archive is found before anything is changed, and quoted; the live database goes on."""

from __future__ import annotations

import errno
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from kept import template
from recovery_lab import Lab, opened
from values import replace

from backout.errors import BackoutError, Refused, UsageError
from backout.model.database.recovery import SideOrder, SideState
from backout.model.database.wal import parse_lsn
from backout.providers.postgres.restore.side import PostgresSides
from backout.runbook.recovery.restore import plan_side, plan_swap

from polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("refused"), template()) as made:
        made.base("base")
        for _ in range(3):
            with made.connect() as connection:
                connection.execute("INSERT INTO ticks (session) SELECT 1 FROM generate_series(1, 100)")
                connection.execute("SELECT pg_switch_wal()")
        made.archived()
        yield made


def target(lab: Lab) -> str:
    rows = lab.rows("INSERT INTO ticks (session) VALUES (2) RETURNING pg_current_xact_id()::text")
    lab.archived()
    return str(rows[0][0])


def test_a_hole_in_the_archive_is_named_before_a_server_is_stopped(lab: Lab) -> None:
    """Other tools restore for a while and die then."""
    xid = target(lab)
    first = lab.backups.wal()[1]
    path = lab.backups.received / first.name
    hidden = path.with_suffix(".hidden")
    path.rename(hidden)
    try:
        with pytest.raises(Refused, match=r"no commit of transaction|the archive has a hole"):
            plan_swap(lab.tools(), xid)
        lsn = lab.rows("SELECT pg_current_wal_insert_lsn()::text")[0][0]
        with pytest.raises(Refused, match=f"WAL segment {first.name} is missing"):
            plan_swap(lab.tools(), str(lsn))
    finally:
        hidden.rename(path)
    assert lab.server.running()
    assert lab.tools().sides.list() == ()


def test_a_damaged_file_of_the_backup_stops_it_at_the_first_step(lab: Lab) -> None:
    """The live server was not touched, and no half-made instance is taken for a whole one."""
    xid = target(lab)
    tools = lab.tools()
    plan = plan_swap(tools, xid)
    damaged = lab.root / "archive" / "bases" / "base" / "damaged"
    damaged.touch()
    try:
        with pytest.raises(BackoutError, match="damaged"):
            lab.run(plan, tools)
    finally:
        damaged.unlink()
    assert lab.server.running()
    assert tools.sides.list() == ()
    run = lab.journal.runs()[0]
    lab.journal.ask(run.id, "abort", actor="test", reason="the test is over")


def test_no_room_another_version_and_no_server_are_said_before(lab: Lab) -> None:
    """Each before anything is made."""
    xid = target(lab)
    with pytest.raises(Refused, match="MB are free"):
        plan_side(lab.tools(free_bytes=lambda _place: 1000), xid)
    with pytest.raises(Refused, match="the programs here are 17"):
        plan_side(lab.tools(tools_version=17), xid)
    with pytest.raises(UsageError, match=r"none is configured") as refused:
        plan_swap(lab.tools(server=None), xid)
    assert "database.server" in str(refused.value.hint)
    assert lab.tools().sides.list() == ()


def test_a_base_of_another_cluster_is_passed_over(lab: Lab) -> None:
    """A new server was set up beside old backups: what the old one called position 0/9000000 is nothing here."""
    xid = target(lab)
    mine = lab.backups.found[0]
    end = parse_lsn(str(lab.rows("SELECT pg_current_wal_insert_lsn()::text")[0][0]))
    other = replace(mine, id="other", system_identifier="1", begin_lsn=mine.begin_lsn, end_lsn=mine.end_lsn + 8)
    path = lab.root / "archive" / "bases" / "other.pickle"
    path.write_bytes(pickle.dumps(replace(other, end_lsn=min(other.end_lsn, end))))
    try:
        assert plan_side(lab.tools(), xid).step("db_side").args["backup"] == mine.id
    finally:
        path.unlink()


def test_another_database_than_the_pinned_one_is_not_touched(lab: Lab) -> None:
    """Safety rule 1: both are shown."""
    xid = target(lab)
    with pytest.raises(Refused, match=r"answers, and 1/shop is pinned") as refused:
        plan_swap(lab.tools(pinned="1/shop"), xid)
    assert refused.value.rule == "1 identity"
    identifier = lab.tools().live.facts().system_identifier
    assert plan_swap(lab.tools(pinned=f"{identifier}/postgres"), xid).steps


class FullDisk:
    """Backups of a lab whose last segment of WAL does not fit, the first time; the others are replayed by then."""

    def __init__(self, backups: object) -> None:
        self._backups = backups
        self.tries = 0
        self.replays: Callable[[], bool] = bool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backups, name)

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = lambda _name: None) -> None:
        self.tries += bool(names)
        if names and self.tries == 1:
            self._backups.fetch_wal(names[:-1], into, laid)
            until(self.replays, what="the server replays", timeout_s=30)
            raise OSError(errno.ENOSPC, "No space left on device")
        self._backups.fetch_wal(names, into, laid)


def test_wal_that_did_not_fit_is_fetched_by_the_next_attempt(lab: Lab) -> None:
    """The half-made instance is gone on with, by another server: that of before has heard that there is no more WAL."""
    backups = FullDisk(lab.backups)
    sides = PostgresSides(lab.root / "full", lab.binaries, backups, lambda: "postgres")
    servers: list[int] = []

    def replays() -> bool:
        side = sides.find("full")
        if side is None or not side.replayed_lsn:
            return False
        servers.append(side.pid)
        return True

    backups.replays = replays
    found = lab.backups.found[0]
    lsn = parse_lsn(str(lab.rows("SELECT pg_current_wal_insert_lsn()::text")[0][0]))
    lab.archived()
    names = tuple(each.name for each in lab.backups.wal() if each.end_lsn > found.begin_lsn)
    order = SideOrder("full", found.id, lsn, found.timeline, names)
    with pytest.raises(OSError, match="No space left"):
        sides.start(order, lambda *_: None)
    try:
        started = sides.start(order, lambda *_: None)
        assert started.state is SideState.PAUSED
        assert started.pid not in {0, *servers}
    finally:
        sides.drop(order.name)
