"""What goes back too is agreed to by name, and is no more than that when the server stops; and what was made since."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.errors import BackoutError, ProviderUnavailable, Refused, WorldMoved
from backout.model.database.also_back import AlsoBack, AlsoKind, find_uncovered, list_exact_words, read_word
from backout.model.database.fence import FenceOrder
from backout.model.incident.incident import RunState
from backout.plan.whole import list_to_agree
from backout.providers.postgres.fence.fence import PostgresFence
from backout.providers.postgres.restore.own_wal import WithOwnWal
from backout.providers.postgres.restore.wal_search import WalSearch
from backout.runbook.recovery.restore import list_kept, plan_swap, plan_undo, release

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backout.model.database.recovery import DatabaseFacts
    from backout.model.database.wal import WalSegment
    from backout.model.plan import Plan
    from backout.ports import WalReader


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("agreed"), template(), templates=True) as made:
        with made.connect() as connection:
            connection.execute("CREATE DATABASE crm")
        within(made, "crm", "CREATE TABLE leads (id int)")
        made.base("one")
        yield made


@pytest.fixture
def own_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("own"), template(), templates=True) as made:
        made.base("one")
        yield made


def within(lab: Lab, database: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements in another database, and return the rows of the last one."""
    with psycopg.connect(lab.dsn.replace("dbname=postgres", f"dbname={database}"), autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def words(plan: Plan) -> set[str]:
    return {thing.word for thing in list_to_agree(plan)}


def follow(lab: Lab) -> None:
    """Receive WAL again, after the server was another one for a while."""
    assert lab.receiver is not None
    lab.receiver.wait(timeout=PATIENCE_S)
    lab.receive()


def test_a_word_agrees_to_so_many_rows_and_no_more() -> None:
    """Without a number as many as are shown; another database's word says nothing of this one."""
    crm, roles = AlsoBack(AlsoKind.DATABASE, "crm", 500), AlsoBack(AlsoKind.SHARED, count=2)
    assert find_uncovered((crm, roles), ["crm=500", "roles=1"]) == (roles,)
    assert find_uncovered((crm,), ["crm=499", "crm2=900", "slot:crm"]) == (crm,)
    assert not find_uncovered((crm, roles), ["crm", "roles=all"])
    more = AlsoBack(AlsoKind.DATABASE, "crm", 501)
    assert find_uncovered((more,), list_exact_words((crm,), ["crm"])) == (more,)
    assert not find_uncovered((more,), list_exact_words((crm,), ["crm=600"]))
    assert find_uncovered((AlsoBack(AlsoKind.DATABASE, "crm"),), ["crm=99999999"])
    for thing in (crm, roles, AlsoBack(AlsoKind.DATABASE, "roles", 1), AlsoBack(AlsoKind.DATABASE, "a=b:c", 1)):
        assert read_word(thing.word).covers(thing)


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_what_was_not_agreed_to_stops_nothing(lab: Lab) -> None:
    """More rows, a database, a slot that came after the plan was shown: refused before the stop, the copy is gone."""
    position = lab.reached()
    within(lab, "crm", "INSERT INTO leads SELECT generate_series(1, 50)")
    tools = lab.tools(receiver="lab")
    plan = plan_swap(tools, position)
    assert words(plan) == {"crm=50"}
    pid = (lab.data / "postmaster.pid").read_text(encoding="utf-8")
    within(lab, "crm", "INSERT INTO leads VALUES (51)")
    with pytest.raises(WorldMoved, match="crm, with 51 row versions"):
        lab.run(plan, tools, words=["crm"])
    lab.rows("SELECT 1 FROM pg_create_physical_replication_slot('cdc')")
    with lab.connect() as connection:
        connection.execute("CREATE DATABASE made_since")
    with pytest.raises(WorldMoved) as refused:
        lab.run(plan, tools, words=["crm=100", "roles=9"])
    assert "made_since, all of it: it was made since" in refused.value.what
    assert "replication slot cdc" in refused.value.what
    assert "crm" not in refused.value.what
    assert (lab.data / "postmaster.pid").read_text(encoding="utf-8") == pid
    assert [path.name for path in lab.data.parent.iterdir()] == ["data"]
    assert list_kept(tools) == ()
    assert tools.sides.list() == ()
    assert {"crm=51", "made_since=all", "slot:cdc"} <= words(plan_swap(tools, position))
    lab.rows("SELECT 1 FROM (SELECT pg_drop_replication_slot('cdc')) AS gone")
    with lab.connect() as connection:
        connection.execute("DROP DATABASE made_since")


@pytest.mark.long
def test_what_a_fence_wrote_to_roles_needs_no_agreement(lab: Lab, tmp_path: Path) -> None:
    """It was raised and opened since: what it took was given back. What others changed of a role still has to be."""
    with lab.connect() as connection:
        connection.execute("CREATE ROLE app LOGIN CONNECTION LIMIT 40")
        connection.execute("COMMENT ON ROLE app IS 'the shop''s own'")
    position = lab.reached()
    fence = PostgresFence(lambda: lab.dsn, lambda: ("app",), lambda: lab.binaries, tmp_path)
    fence.open(fence.raise_fence(FenceOrder("run-1", "ops@host", 0.0, ("app",))))
    tools = lab.tools(receiver="lab")
    assert words(plan_swap(tools, position)) == set()
    with lab.connect() as connection:
        connection.execute("ALTER ROLE app CONNECTION LIMIT 50")
    assert words(plan_swap(tools, position)) == {"roles=1"}
    with lab.connect() as connection:
        connection.execute("DROP ROLE app")


class Recycled(WithOwnWal):
    """WAL of which the server's checkpoint takes a segment away, once it is laid out to be read."""

    taken = ""

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = lambda _name: None) -> None:
        super().fetch_wal(names, into, laid)
        if self.taken in names:
            (self._data / "pg_wal" / self.taken).unlink(missing_ok=True)


@pytest.mark.long
def test_wal_that_the_server_takes_away_while_it_is_read_is_counted_from_the_archive(own_lab: Lab) -> None:
    """A checkpoint may come at any moment; else a recovery is given up, since nobody knows what would be lost."""
    lab = own_lab
    with lab.connect() as connection:
        connection.execute("CREATE DATABASE crm")
    within(lab, "crm", "CREATE TABLE leads (id int)")
    position = lab.reached()
    within(lab, "crm", "INSERT INTO leads SELECT generate_series(1, 50)")
    ((name,),) = lab.rows("SELECT pg_walfile_name(pg_current_wal_lsn())")
    lab.rows("SELECT pg_switch_wal()")
    lab.reached()
    lab.archived()

    def beside(segments: Sequence[WalSegment], *, alone: bool) -> tuple[Sequence[WalSegment], WalReader]:
        assert not alone
        both = Recycled(lab.backups, lab.data, segments)
        both.taken = str(name)
        return both.wal(), WalSearch(lab.binaries, both, lab.root / "recycled")

    assert words(plan_swap(lab.tools(receiver="lab", wal_beside=beside), position)) == {"crm=50"}


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_the_undo_of_a_swap_counts_what_was_written_since(lab: Lab) -> None:
    """By table of its own database, and of the others; the newer cluster is kept until told otherwise."""
    with lab.connect() as connection:
        connection.execute("CREATE TABLE invoices (id int)")
    position = lab.reached()
    tools = lab.tools(receiver="lab")
    lab.rows("INSERT INTO invoices VALUES (1) RETURNING 1")
    lab.run(plan_swap(tools, position), tools)
    assert words(plan_undo(tools)) == set()
    lab.rows("INSERT INTO invoices SELECT generate_series(10, 16) RETURNING 1")
    within(lab, "crm", "INSERT INTO leads VALUES (7), (8)")
    plan = plan_undo(tools)
    assert words(plan) == {"postgres=all", "crm=2"}
    assert any("7 row versions in public.invoices (7) of postgres" in note for note in plan.notes)
    with pytest.raises(WorldMoved, match="written since the swap"):
        lab.run(plan, tools, words=["crm=2"])
    assert lab.run(plan, tools, words=["crm", "postgres"]).state is RunState.DONE
    assert lab.rows("SELECT id FROM invoices") == [(1,)]
    follow(lab)
    newer = plan_undo(tools)
    assert any("1 row versions in public.invoices (1) of postgres" in note for note in newer.notes), "lost once more"
    assert words(newer) == {"postgres=all"}
    lab.run(newer, tools)
    assert lab.rows("SELECT count(*), min(id) FROM invoices") == [(7, 10)]
    assert len(list_kept(tools)) == 1
    lab.run(plan_undo(tools), tools)
    follow(lab)
    release(tools)


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_files_of_settings_that_were_changed_since_are_named(own_lab: Lab) -> None:
    """By their time in the plan of a swap, by their content as soon as both lie here."""
    lab = own_lab  # for good: a swap of one where the file was changed names it
    position = lab.reached()
    tools = lab.tools(receiver="lab")
    assert words(plan_swap(tools, position)) == set()
    with (lab.data / "pg_hba.conf").open("a") as file:
        file.write("# one more rule\n")
    assert words(plan_swap(tools, position)) == {"file:pg_hba.conf"}
    lab.run(plan_swap(tools, position), tools)
    assert words(plan_undo(tools)) == {"file:pg_hba.conf"}, "the one that comes back has it, the live one has not"
    lab.run(plan_undo(tools), tools)
    follow(lab)
    assert "one more rule" in (lab.data / "pg_hba.conf").read_text(encoding="utf-8")
    release(tools)


def test_tablespaces_outside_of_the_data_directory_are_refused(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Both clusters would write into the same folder."""
    position = lab.reached()
    place = tmp_path_factory.mktemp("space")
    place.chmod(0o777)
    shutil.chown(place, lab.data.stat().st_uid, lab.data.stat().st_gid)
    with lab.connect() as connection:
        connection.execute(f"CREATE TABLESPACE fast LOCATION '{place}'")
    try:
        with pytest.raises(Refused, match=f"it has tablespaces outside.*{place}"):
            plan_swap(lab.tools(), position)
    finally:
        with lab.connect() as connection:
            connection.execute("DROP TABLESPACE fast")


def test_a_dead_server_wants_a_yes_for_what_nobody_could_look_at(lab: Lab) -> None:
    """What else the cluster held is not known; an empty folder in place of a lost disk has nothing to lose."""
    position = lab.reached()
    lab.server.stop()
    try:
        assert words(plan_swap(lab.tools(), position)) == {"unknown"}
        away: Path = lab.data.with_name("away")
        lab.data.rename(away)
        lab.data.mkdir(mode=0o700)
        try:
            assert words(plan_swap(lab.tools(), position)) == set()
        finally:
            lab.data.rmdir()
            away.rename(lab.data)
    finally:
        lab.server.start()
        follow(lab)


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_what_is_written_in_the_last_moment_is_counted_behind_the_stop(lab: Lab) -> None:
    """Between the last look and the stop: the server comes up again on what it had, and nothing was exchanged."""
    position = lab.reached()
    tools = lab.tools(receiver="lab")

    class Late:
        """The server, whose stop is not quicker than a writer of another database."""

        def __getattr__(self, name: str) -> Any:
            return getattr(lab.server, name)

        def stop(self) -> None:
            within(lab, "crm", "INSERT INTO leads VALUES (99)")
            lab.server.stop()

    late = lab.tools(receiver="lab", server=Late())
    with pytest.raises(WorldMoved, match="crm, with 1 row versions, 1 of them in the last moment"):
        lab.run(plan_swap(tools, position), late)
    follow(lab)
    assert within(lab, "crm", "SELECT 1 FROM leads WHERE id = 99") == [(1,)]
    assert [path.name for path in lab.data.parent.iterdir()] == ["data"]
    assert list_kept(tools) == ()


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_where_sequences_cannot_be_advanced_the_old_server_comes_up_again(lab: Lab) -> None:
    """Nobody is left with a server that is down, and nothing hands out values twice."""
    position = lab.reached()
    tools = lab.tools(receiver="lab")

    class Unable:
        """One that never gets the other cluster to start."""

        def settle(self, _old: Path) -> bool:
            return False

        def carry(self, *_: object) -> None:
            raise BackoutError("it does not start")

    class Mute:
        """The live database, which says nothing any more once it was started again."""

        def __getattr__(self, name: str) -> Any:
            return getattr(tools.live, name)

        def facts(self, within_s: float = 0.0) -> DatabaseFacts:
            if within_s:
                raise ProviderUnavailable("it does not answer")
            return tools.live.facts()

    with pytest.raises(WorldMoved, match=r"the server was started again and does not answer \(it does not answer\)"):
        lab.run(plan_swap(tools, position), lab.tools(receiver="lab", carrier=Unable(), live=Mute()))
    follow(lab)
    with pytest.raises(WorldMoved, match="it does not start; the server answers again, on timeline"):
        lab.run(plan_swap(tools, position), lab.tools(receiver="lab", carrier=Unable()))
    follow(lab)
    assert lab.rows("SELECT 1") == [(1,)]
    assert [path.name for path in lab.data.parent.iterdir()] == ["data"]
