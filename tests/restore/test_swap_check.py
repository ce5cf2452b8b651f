"""The second check of a swap: what a broken copy, or another one, makes of the rows is found by hashes noted before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.model.steps.comparison import ComparisonResult
from backout.model.steps.restore import NoteCopiesResult
from backout.providers.clock import SystemClock
from backout.providers.postgres.comparison.cluster import compare_cluster, note_cluster
from backout.providers.postgres.comparison.copies import Limits
from backout.providers.postgres.restore.side_looking import read_all
from backout.providers.postgres.server.template import run_tool
from backout.report.database.comparison import SecondCheck
from backout.runbook.recovery.restore import plan_swap, plan_undo
from backout.runbook.recovery.restoring import make_actions

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backout.model.database.comparison import Comparison
    from backout.model.plan import Plan
    from backout.ports import Action, StepContext

pytestmark = pytest.mark.rotating("restores", 5)


TABLES = ("emptied", "lost", "flipped", "cut", "gone")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("checked"), template(), templates=True) as made:
        with made.connect() as connection:
            connection.execute("CREATE DATABASE other")
        made.base("base")
        yield made


@pytest.fixture(autouse=True)
def _filled(lab: Lab, tmp_path: Path) -> Iterator[None]:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())
    if lab.receiver is not None and lab.receiver.poll() is not None:  # it ended with the server of an earlier test
        lab.receive()
    with lab.connect() as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, status text, price float8)")
        connection.execute("INSERT INTO orders SELECT g, 'paid', g / 3.0 FROM generate_series(1, 900) AS g")
        for name in TABLES:
            connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, body text)".encode())
            connection.execute(f"INSERT INTO {name} SELECT g, 'x' || g FROM generate_series(1, 90) g".encode())  # noqa: S608 - ours
    yield
    with lab.connect() as connection:
        for name in ("orders", *TABLES):
            connection.execute(f"DROP TABLE IF EXISTS {name} CASCADE".encode())


class Then:
    """A step's action with something behind it."""

    def __init__(self, real: Action, also: Callable[[], None]) -> None:
        self.arguments, self.effect, self.irreversible = real.arguments, real.effect, real.irreversible
        self._real = real
        self._also = also

    def do(self, args: Any, context: StepContext) -> Any:
        done = self._real.do(args, context)
        self._also()
        return done

    def probe(self, args: Any, context: StepContext) -> Any:
        return self._real.probe(args, context)


def driven(lab: Lab, plan: Plan, **also: Callable[[], None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a plan, with something behind some of its steps; return what was recorded before the exchange, and after."""
    tools = lab.tools()
    known = make_actions(tools)
    run = lab.run(plan, tools, {**known, **{name: Then(known[name], what) for name, what in also.items()}})
    after, before = lab.journal.result(run.id, "db_compare_copy"), lab.journal.result(run.id, "db_note_copies")
    assert isinstance(after, dict)
    assert before is None or isinstance(before, dict)
    return before or {}, after


def check_of(before: dict[str, Any], after: dict[str, Any]) -> SecondCheck:
    """Return what was recorded as the command line shows it."""
    return SecondCheck(decode_values(after, ComparisonResult), decode_values(before, NoteCopiesResult))


def back(lab: Lab) -> tuple[dict[str, Any], dict[str, Any]]:
    """Undo the swap, and receive again."""
    tools = lab.tools()
    found = driven(lab, plan_undo(tools))
    assert lab.receiver is not None
    lab.receiver.wait(timeout=PATIENCE_S)
    lab.receive()
    return found


def incoming(plan: Plan) -> Path:
    return Path(str(plan.step("db_exchange").args["incoming"]))


def files_of(lab: Lab) -> dict[str, str]:
    return {name: str(lab.rows(f"SELECT pg_relation_filepath('{name}')")[0][0]) for name in TABLES}


def break_files(lab: Lab, data: Path, files: Mapping[str, str]) -> None:
    """Break a stopped cluster as a disk does: a file empty, one gone, one row with another value, a page cut off."""
    run_tool(lab.binaries, "pg_checksums", "--disable", "-D", str(data))
    (data / files["emptied"]).write_bytes(b"")
    (data / files["lost"]).unlink()
    flipped = data / files["flipped"]
    flipped.write_bytes(flipped.read_bytes().replace(b"x77", b"y77"))
    cut = data / files["cut"]
    cut.write_bytes(bytes(len(cut.read_bytes())))


def counts(record: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return (missing, wrong) of the tables that differ."""
    return {each["table"].rpartition(".")[2]: (each["missing"], each["wrong"]) for each in record["differs"]}


@pytest.mark.long
def test_a_right_swap_and_its_undo_pass_and_say_what_was_compared(lab: Lab) -> None:
    """Rows that others wrote since are counted, on either side, and do not hide the rest."""
    position = lab.reached()
    lab.rows("UPDATE orders SET status = 'sent' WHERE id <= 7 RETURNING 1")
    lab.rows("DELETE FROM orders WHERE id > 890 RETURNING 1")
    plan = plan_swap(lab.tools(), position)
    before, after = driven(lab, plan, db_start_server=lambda: until(lambda: written(lab), what="the database answers"))
    assert before["differs"] == before["behind"] == after["differs"] == after["behind"] == []
    assert before["newer"] >= 17
    assert after["newer"] >= 3
    assert after["equal"] >= 850
    assert (
        f"{after['rows']:,} rows of {after['tables']} tables and catalogs of the server after the swap"
        in after["sentence"]
    )
    assert check_of(before, after).codes == (0, 0)
    assert lab.rows("SELECT count(*) FROM orders") == [(900,)]
    _, undone = back(lab)
    assert undone["differs"] == undone["behind"] == []
    assert "that is back" in undone["sentence"]
    assert lab.rows("SELECT count(*) FROM orders") == [(890,)]


def written(lab: Lab) -> bool:
    """Write as an application does that is back at once."""
    try:
        lab.rows("UPDATE orders SET status = 'new' WHERE id IN (1, 2) RETURNING 1")
        lab.rows("DELETE FROM orders WHERE id = 3 RETURNING 1")
        lab.rows("INSERT INTO orders VALUES (3, 'new', 1) RETURNING 1")
    except psycopg.OperationalError:
        return False
    return True


OTHERS = """
BEGIN; UPDATE orders SET status = 'a' WHERE id < 100; SAVEPOINT one; DELETE FROM orders WHERE id > 800; ROLLBACK TO one;
SAVEPOINT two; INSERT INTO orders SELECT g, 'n', 1 FROM generate_series(1000, 1100) g; COMMIT;
BEGIN; UPDATE orders SET price = 0; ROLLBACK;
TRUNCATE gone; INSERT INTO gone SELECT g, 'z' FROM generate_series(1, 30) g;
ALTER TABLE emptied ADD extra int DEFAULT 7; UPDATE emptied SET extra = 8 WHERE id < 20;
ALTER TABLE lost ALTER body TYPE varchar(20); ALTER TABLE lost RENAME COLUMN body TO text;
DROP TABLE flipped; CREATE TABLE flipped (id int PRIMARY KEY, body text); INSERT INTO flipped VALUES (1, 'new');
CREATE INDEX CONCURRENTLY cut_body ON cut (body); REINDEX INDEX CONCURRENTLY cut_body; CLUSTER cut USING cut_body;
VACUUM (FULL) orders; VACUUM (FREEZE) cut; ANALYZE;
CREATE TEMP TABLE mine AS SELECT 1 AS x; DROP TABLE mine;
CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM orders; REFRESH MATERIALIZED VIEW seen;
CREATE FUNCTION said() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE OR REPLACE FUNCTION said() RETURNS int LANGUAGE sql AS 'SELECT 2';
SELECT setval('numbers', nextval('numbers') + 40); ALTER SEQUENCE restarted RESTART;
CREATE ROLE somebody; ALTER ROLE somebody LOGIN; DROP ROLE somebody;
"""


def held(lab: Lab) -> dict[str, Any]:
    return note_cluster(lab.dsn, lambda *_: None)


def compared(lab: Lab, noted: Mapping[str, Any]) -> Comparison:
    return compare_cluster(noted, lab.dsn, goes_on=True, progress=lambda *_: None)


@pytest.mark.long
def test_what_others_do_since_is_no_difference(lab: Lab) -> None:
    """Savepoints that were open at that time, DDL, what upkeep rewrites: a check that cries wolf is not read."""
    with lab.connect() as open_then, lab.connect() as connection:
        connection.execute("CREATE SEQUENCE numbers; CREATE SEQUENCE restarted; SELECT nextval('numbers')")
        connection.execute("SELECT nextval('restarted'), nextval('restarted')")
        open_then.execute("BEGIN; INSERT INTO orders VALUES (2000, 'open', 1); SAVEPOINT a")
        open_then.execute("INSERT INTO orders VALUES (2001, 'open', 1); DELETE FROM orders WHERE id = 500")
        noted = held(lab)
        open_then.execute("COMMIT")
        for line in OTHERS.split(";"):
            connection.execute(line.encode())
        found = compared(lab, noted)
    try:
        assert [each for each in found.tables if each.differing] == []
        assert found.behind == ()
        assert {each.table.rpartition(".")[2]: each.reason for each in found.tables if each.reason} == {
            "lost": "altered since by others",
            "flipped": "dropped since by others",
        }
    finally:
        with lab.connect() as connection:
            connection.execute("DROP SEQUENCE numbers, restarted; DROP MATERIALIZED VIEW seen; DROP FUNCTION said")


@pytest.mark.long
def test_an_idle_client_is_waited_for_though_its_session_is_another_roles(lab: Lab) -> None:
    """What it removed is reported seconds later, and a role without rights on statistics sees little of its session."""
    with lab.connect() as connection:
        connection.execute("CREATE ROLE watcher LOGIN IN ROLE pg_read_all_data")
    url = psycopg.conninfo.make_conninfo(lab.dsn, user="watcher")
    try:
        noted = note_cluster(url, lambda *_: None)
        with lab.connect() as client:
            client.execute("SELECT count(*) FROM gone")
            client.execute("DELETE FROM gone WHERE id > 5")  # within a second of a report, so that it is told later
            found = compare_cluster(noted, url, goes_on=True, progress=lambda *_: None)
        assert [each for each in found.tables if each.failed or each.differing] == []
        assert [each.newer for each in found.tables if each.table == "postgres: public.gone"] == [85]
    finally:
        with lab.connect() as connection:
            connection.execute("DROP ROLE watcher")


def test_a_sequence_that_was_set_back_and_another_server_are_named(lab: Lab) -> None:
    """So is a database that is not there."""
    with lab.connect() as connection:
        connection.execute("CREATE SEQUENCE back; SELECT setval('back', 100)")
    noted = held(lab)
    lab.rows("SELECT setval('back', 7)")
    assert compared(lab, noted).behind == ("postgres: sequence public.back stands at 7, and had handed out 100",)
    later = {**noted, "timeline": noted["timeline"] + 1}
    assert "the server is on timeline" in compared(lab, later).behind[0]
    with pytest.raises(BackoutError, match="another cluster answers"):
        compared(lab, {**noted, "system_identifier": "7"})
    gone = {**noted["databases"], "nowhere": noted["databases"]["other"]}
    assert "database nowhere is not there, or refuses logins" in compared(lab, {**noted, "databases": gone}).behind


def test_a_database_that_was_half_dropped_stops_no_check(lab: Lab) -> None:
    """Nobody is let into it any more: it is neither compared, nor read for a proof, nor asked for its sequences."""
    with lab.connect() as connection:
        connection.execute("CREATE DATABASE half")
        connection.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'")
        try:
            assert set(held(lab)["databases"]) == {"other", "postgres"}
            assert {each.name for each in read_all(lab.dsn)} == {"other", "postgres"}
            assert set(lab.tools().live.sequences()) == {"other", "postgres"}
        finally:
            connection.execute("DROP DATABASE half")


@pytest.mark.long
def test_of_a_large_table_stripes_are_compared(lab: Lab) -> None:
    """Rows of a large table that are not looked at are counted."""
    with lab.connect() as connection:
        connection.execute("CREATE TABLE large (id int PRIMARY KEY, body text)")
        connection.execute(
            "INSERT INTO large SELECT g, repeat('x', 700) FROM generate_series(1, 1000) g; ANALYZE large"
        )
        limits = Limits(whole_bytes=64 << 10, stripe_pages=1)
        noted = note_cluster(lab.dsn, lambda *_: None, limits)
        connection.execute("DELETE FROM large WHERE id = 1")
        (large,) = [each for each in compared(lab, noted).tables if each.table.endswith(".large")]
        connection.execute("DROP TABLE large")
    assert large.differing == 0
    assert large.newer == 1
    assert 300 <= large.rows < 400
    assert large.rows + large.unread >= 1000
    assert large.equal == large.rows - 1


@pytest.mark.long
def test_what_a_disk_does_to_the_copy_or_to_what_is_kept_is_found(lab: Lab) -> None:
    """A row in the copy before it was noted, files of it after that, and files of the old cluster before its undo."""
    files, tools = files_of(lab), lab.tools()
    plan = plan_swap(tools, lab.reached())
    name = str(plan.step("db_promote").args["name"])

    def break_row() -> None:
        side = tools.sides.find(name)
        assert side is not None
        with psycopg.connect(f"{side.dsn} options='-c default_transaction_read_only=off'", autocommit=True) as there:
            there.execute("UPDATE orders SET price = price + 1 WHERE id = 7; DELETE FROM orders WHERE id = 8")

    broken = lambda: break_files(lab, incoming(plan), files)  # noqa: E731 - said once
    before, after = driven(lab, plan, db_side_open=break_row, db_promote=broken)
    assert counts(before) == {"orders": (0, 2)}
    assert before["differs"][0]["examples"] == ["7", "8"]
    assert counts(after) == {"emptied": (90, 0), "lost": (90, 0), "flipped": (0, 1), "cut": (90, 0)}
    lines = check_of(before, after).lines
    assert sum(line.startswith("NOT AS BEFORE: postgres: public.") for line in lines) == 5
    assert check_of(before, after).codes == (1, 1)
    undo = plan_undo(tools)
    break_files(lab, incoming(undo), files)
    _, undone = driven(lab, undo)
    assert counts(undone) == {"emptied": (90, 0), "lost": (90, 0), "flipped": (0, 1), "cut": (90, 0)}
