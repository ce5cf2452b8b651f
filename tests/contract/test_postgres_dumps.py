"""Ports Dumps and DumpRestores on real servers: taken under writes, proven by a restore, restored, refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from cli_shell import backout
from kept import template
from values import replace

from backout.analysis.recovery.dumps import list_differences
from backout.errors import AuthError, BackoutError, ProviderUnavailable, Refused
from backout.providers.archive.sealing import Key
from backout.providers.memory import WorldClock
from backout.providers.postgres.backup.dump_contents import read_contents
from backout.providers.postgres.backup.dumps import PostgresDumps
from backout.providers.postgres.server.binaries import Binaries, find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.runbook.backup.dump import DumpTools, dump, restore, verify

from polling import until
from scripted_server import refused_url

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "canary-of-the-dumps"
DEBIANS = sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))
SCHEMA = """
CREATE EXTENSION vector;
CREATE SCHEMA "Sales, EU";
CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL, at timestamptz, f float8);
CREATE TABLE "Sales, EU"."odd""name" (id int, what bytea, near vector(3));
CREATE TABLE parts (id int, k int) PARTITION BY LIST (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
INSERT INTO users (email, at, f) SELECT i || '@example.com', now(), i / 3.0 FROM generate_series(1, 1000) i;
INSERT INTO "Sales, EU"."odd""name" VALUES (1, '\\x00ff', '[1,2,3]');
INSERT INTO parts SELECT i, 1 FROM generate_series(1, 50) i;
CREATE ROLE "only for ""these"" policies";
CREATE POLICY p ON users TO "only for ""these"" policies" USING (true);
CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM users;
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("dumps-server")
    server = PostgresServer(folder / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    port = server.start(password=PASSWORD).port
    with psycopg.connect(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
        connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
    with psycopg.connect(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/shop", autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    yield f"127.0.0.1:{port}"
    server.stop(mode="immediate")


def url(address: str, database: str = "shop", user: str = "postgres") -> str:
    return f"postgresql://{user}:{PASSWORD}@{address}/{database}"


def dumps(folder: Path, dsn: str, *, at: float = 1_795_600_800.0, binaries: Binaries | None = None) -> PostgresDumps:
    return PostgresDumps(folder / "dumps", lambda: dsn, lambda: binaries or find_binaries(), WorldClock(at))


def tools(folder: Path, dsn: str, *, at: float = 1_795_600_800.0, keep_s: float = 86400.0) -> DumpTools:
    made = dumps(folder, dsn, at=at)
    return DumpTools(made, made, WorldClock(at), keep_s)


def empty(address: str) -> str:
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(url(address), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url(address, name)


def test_a_dump_is_proven_by_a_restore_and_restored_the_same(tmp_path: Path, address: str) -> None:
    """Schemas, partitions, extensions, odd names, policies for roles that the scratch server does not have."""
    made = tools(tmp_path, url(address))
    done = dump(made, checksums=True)
    assert done.dump is not None
    assert done.dump.problem == ""
    counts = {table.name: table.rows for table in done.dump.tables}
    assert counts == {'"Sales, EU"."odd""name"': 1, "public.parts_1": 50, "public.users": 1000}
    assert all(table.checksum for table in done.dump.tables)
    assert done.dump.id == "20261125T100000Z"
    target = empty(address)
    restore(made, done.dump, target)
    with psycopg.connect(target) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT email) FROM users").fetchone() == (1000, 1000)
    for path in (tmp_path / "dumps").iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert PASSWORD.encode() not in path.read_bytes()


@pytest.mark.long
def test_what_is_not_compared_is_named(tmp_path: Path, address: str) -> None:
    """Materialized views, and tables of extensions whose rows pg_dump leaves away; what it dumps whole is compared."""
    target = empty(address)
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector; CREATE TABLE kept (id int); INSERT INTO kept VALUES (1), (2)")
        connection.execute("CREATE TABLE held (id int); INSERT INTO held VALUES (7)")
        connection.execute("ALTER EXTENSION vector ADD TABLE held; CREATE MATERIALIZED VIEW sums AS SELECT 1 AS n")
    done = dump(tools(tmp_path, target), checksums=True)
    assert done.dump is not None
    assert (done.dump.problem, [table.name for table in done.dump.tables]) == ("", ["public.kept"])
    said = "; ".join(done.dump.not_proved)
    assert "materialized view public.sums" in said
    assert "table public.held: it is extension vector's, and none of its rows is dumped" in said
    with psycopg.connect(target) as connection:
        connection.execute("UPDATE pg_extension SET extconfig = ARRAY['held'::regclass::oid], extcondition = '{\"\"}'")
        assert [each.name for each in read_contents(connection, checksums=True)] == ["public.held", "public.kept"]
        connection.execute("UPDATE pg_extension SET extcondition = '{WHERE id > 9}' WHERE extconfig IS NOT NULL")
        assert [each.name for each in read_contents(connection, checksums=True)] == ["public.kept"]
        connection.rollback()


@pytest.mark.long
def test_two_dumps_of_one_second_are_two(tmp_path: Path, address: str) -> None:
    """The second is not written over the first, and its failure takes nothing of the first away."""
    made = dumps(tmp_path, url(address))
    first = made.take(checksums=False)
    second = made.take(checksums=False)
    assert [first.id, second.id] == ["20261125T100000Z", "20261125T100001Z"]
    with pytest.raises(BackoutError):
        dumps(tmp_path, url(address, database="nowhere")).take(checksums=False)
    assert [each.id for each in made.list_dumps()] == [first.id, second.id]
    assert made.try_restore(first) == made.try_restore(second)


@pytest.mark.long
def test_a_dump_under_writes_compares_exactly(tmp_path: Path, address: str) -> None:
    """The count is of the dumped snapshot: rows that come meanwhile are in neither."""
    target = empty(address)
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("CREATE TABLE busy AS SELECT i FROM generate_series(1, 50000) i")
    ended = threading.Event()

    def write() -> None:
        with psycopg.connect(target, autocommit=True) as connection:
            while not ended.is_set():
                connection.execute("INSERT INTO busy SELECT 0 FROM generate_series(1, 10)")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = dump(tools(tmp_path, target), checksums=True)
    finally:
        ended.set()
        writer.join()
    assert done.dump is not None
    assert done.dump.problem == ""
    with psycopg.connect(target) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM busy").fetchone() or (0,)
    assert 50_000 <= done.dump.rows < rows


@pytest.mark.long
def test_bytes_that_are_no_utf8_come_back_the_same(tmp_path: Path, address: str) -> None:
    """A database in SQL_ASCII is proven in one of the same encoding."""
    with psycopg.connect(url(address), autocommit=True) as connection:
        for name in ("bytes", "copied"):
            kind = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'"
            connection.execute(f"CREATE DATABASE {name} {kind}".encode())
    with psycopg.connect(url(address, "bytes"), autocommit=True) as connection:
        connection.execute("CREATE TABLE odd AS SELECT E'\\xff\\xfe'::text AS t")
    made = tools(tmp_path, url(address, "bytes"))
    done = dump(made, checksums=True)
    assert done.dump is not None
    assert (done.dump.problem, done.dump.encoding) == ("", "SQL_ASCII")
    restore(made, done.dump, url(address, "copied"))


def test_a_database_that_holds_anything_is_refused(tmp_path: Path, address: str) -> None:
    """With what is in it; nothing is touched."""
    made = tools(tmp_path, url(address))
    taken = made.dumps.take(checksums=False)
    for statement in ("CREATE TABLE there ()", "CREATE SCHEMA there", "CREATE FUNCTION there() RETURNS int RETURN 1"):
        target = empty(address)
        with psycopg.connect(target, autocommit=True) as connection:
            connection.execute(statement.encode())
        with pytest.raises(Refused, match=r"is not empty: .*there"):
            restore(made, taken, target)


def test_an_empty_database_with_an_extension_counts_as_empty(tmp_path: Path, address: str) -> None:
    """A vendor's new database comes with some; pg_restore leaves what is there."""
    target = empty(address)
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
    made = tools(tmp_path, url(address))
    restore(made, made.dumps.take(checksums=False), target)


def test_a_damaged_file_and_a_missing_one_are_named(tmp_path: Path, address: str) -> None:
    """Before any server is touched."""
    made = dumps(tmp_path, url(address))
    taken = made.take(checksums=False)
    path = tmp_path / "dumps" / f"{taken.id}.00000"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for call in (made.try_restore, lambda dump: made.restore(dump, refused_url())):
        with pytest.raises(BackoutError, match="damaged") as caught:
            call(taken)
        assert caught.value.where == str(path)
    path.unlink()
    with pytest.raises(BackoutError, match="missing"):
        made.try_restore(taken)
    (tmp_path / "dumps" / f"{taken.id}.json").write_text("{")
    ((name, why),) = made.list_refused()
    assert (name, made.list_dumps()) == (taken.id, ())
    assert "description of a dump cannot be read" in why.what


def test_with_a_key_a_dump_is_sealed(tmp_path: Path, address: str) -> None:
    """Without it, or with another one, nothing can be read; nothing of the data stands in the files."""
    one, other = Key.parse("ab" * 32), Key.parse("cd" * 32)
    sealed = PostgresDumps(tmp_path, lambda: url(address), find_binaries, WorldClock(0.0), key=lambda: one)
    taken = sealed.take(checksums=False)
    assert b"@example.com" not in (tmp_path / f"{taken.id}.00000").read_bytes()
    there = sealed.try_restore(taken)
    assert [(each.name, each.rows) for each in there.tables] == [(each.name, each.rows) for each in taken.tables]
    assert (there.check.differs, there.check.tables) == ((), 3)
    for key in (None, other):
        wrong = PostgresDumps(tmp_path, lambda: url(address), find_binaries, WorldClock(0.0), key=lambda k=key: k)  # type: ignore[misc]
        with pytest.raises((AuthError, BackoutError)):
            wrong.try_restore(taken)


@pytest.mark.long
def test_content_that_differs_is_not_proven(tmp_path: Path, address: str) -> None:
    """The dump is kept with its problem, and no older one goes for it."""
    made = tools(tmp_path, url(address))
    taken = made.dumps.take(checksums=True)
    first, *rest = taken.tables
    lying = replace(taken, tables=(replace(first, checksum="1"), *rest))
    assert "has other content in its" in verify(made, lying).problem
    assert list_differences((replace(first, rows=7),), taken.tables) != ()
    (kept,) = made.dumps.list_dumps()
    assert (kept.verified_at, kept.problem != "") == (None, True)


@pytest.mark.long
def test_the_old_ones_go_and_half_a_dump_is_never_listed(tmp_path: Path, address: str) -> None:
    """What a kill left is removed by the next dump."""
    folder = tmp_path / "dumps"
    first = dump(tools(tmp_path, url(address)))
    (folder / "20260101T000000Z.00000").write_bytes(b"half")
    assert [each.id for each in dumps(tmp_path, url(address)).list_dumps()] == ["20261125T100000Z"]
    later = tools(tmp_path, url(address), at=1_795_600_800.0 + 7 * 86400)
    assert not dump(later, every_s=8 * 86400.0).taken
    done = dump(later, every_s=86400.0)
    assert (done.taken, done.removed) == (True, ())  # what pause between two is usual is not known yet
    last = dump(tools(tmp_path, url(address), at=1_795_600_800.0 + 14 * 86400))
    assert (last.taken, last.removed) == (True, (first.dump,))
    names = [f"{each}.{end}" for each in ("20261202T100000Z", "20261209T100000Z") for end in ("00000", "json")]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_role_that_may_not_read_everything_is_told_so(tmp_path: Path, address: str) -> None:
    """Half a copy is no copy."""
    with pytest.raises(AuthError, match="may not read everything") as caught:
        dumps(tmp_path, url(address, user="app")).take(checksums=False)
    assert 'GRANT pg_read_all_data TO "app"' in (caught.value.hint or "")
    assert list((tmp_path / "dumps").iterdir()) == []


def test_a_role_that_may_not_read_a_large_object_is_told_what_lets_it(tmp_path: Path, address: str) -> None:
    """The role that reads everything reads no large object of others: what is told is typed, and then it does."""
    target = empty(address)
    with psycopg.connect(target, autocommit=True) as owner:
        owner.execute("SELECT lo_from_bytea(4242, 'x')")
        owner.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data")
        made = dumps(tmp_path, target.replace("//postgres:", "//reader:"))
        with pytest.raises(AuthError, match="may not read everything") as caught:
            made.take(checksums=False)
        hint = caught.value.hint or ""
        assert 'GRANT SELECT ON LARGE OBJECT 4242 TO "reader"' in hint
        owner.execute(hint.partition("  --")[0].encode())
        assert made.take(checksums=False).id


def test_a_wrong_password_and_a_server_that_is_gone(tmp_path: Path, address: str) -> None:
    with pytest.raises(AuthError) as caught:
        dumps(tmp_path, url(address).replace(PASSWORD, "wrong-canary")).take(checksums=False)
    assert "wrong-canary" not in str(caught.value)
    gone = refused_url().replace("http://", "postgresql://a:b@")
    with pytest.raises(ProviderUnavailable):
        dumps(tmp_path, f"{gone}/x").take(checksums=False)


@pytest.mark.skipif(not DEBIANS, reason="no Postgres of the system: apt-get install postgresql")
def test_programs_older_than_the_server_are_refused(tmp_path: Path, address: str) -> None:
    """Before anything is written."""
    with pytest.raises(Refused, match="does not read a newer server"):
        dumps(tmp_path, url(address), binaries=Binaries(DEBIANS[0])).take(checksums=False)


@pytest.mark.long
def test_an_extension_that_the_scratch_server_lacks_is_said(tmp_path: Path, address: str) -> None:
    """It is not proven; it is not called broken either."""
    made = tools(tmp_path, url(address))
    taken = made.dumps.take(checksums=False)
    bare = tmp_path / "bin"
    bare.mkdir()
    original = find_binaries()
    for program in original.directory.iterdir():
        (bare / program.name).symlink_to(program)
    (bare / "pg_restore").unlink()
    (bare / "pg_restore").write_text('#!/bin/sh\necho "2; 3079 1 EXTENSION - postgis "\n')
    (bare / "pg_restore").chmod(0o755)
    strange = dumps(tmp_path, url(address), binaries=Binaries(bare))
    with pytest.raises(BackoutError, match="do not include the extension postgis"):
        strange.try_restore(taken)


@pytest.mark.long
def test_a_pg_dump_that_comes_to_a_halt_is_ended(tmp_path: Path, address: str) -> None:
    """However long a dump takes, a server from which nothing comes any more holds nobody for ever; nothing is kept."""
    halting = tmp_path / "bin"
    halting.mkdir()
    for program in find_binaries().directory.iterdir():
        (halting / program.name).symlink_to(program)
    (halting / "pg_dump").unlink()
    (halting / "pg_dump").write_text('#!/bin/sh\ncase "$*" in *nothing*) exit 1;; esac\necho begun\nexec sleep 20\n')
    (halting / "pg_dump").chmod(0o755)
    made = dumps(tmp_path, url(address), binaries=Binaries(halting))
    made.silence_s = 1.0
    with pytest.raises(ProviderUnavailable, match="pg_dump made no progress"):
        made.take(checksums=False)
    assert list((tmp_path / "dumps").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "dumps").write_text("a file")
    with pytest.raises(BackoutError, match="folder of dumps"):
        dumps(tmp_path, refused_url()).take(checksums=False)


@pytest.mark.long
def test_a_kill_leaves_no_dump_and_the_next_one_cleans_up(tmp_path: Path, address: str) -> None:
    """Kill -9 while pg_dump waits: nothing is listed, pg_dump ends too; meanwhile a second one is refused."""
    (tmp_path / "backout.toml").write_text(CONFIGURATION)
    target = empty(address)
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("CREATE TABLE held AS SELECT 1 AS i")
    argv = (sys.executable, "-m", "backout", "db", "dump", "--config", str(tmp_path / "backout.toml"))
    environment = {**os.environ, "DATABASE_URL": target}

    def waiting() -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        (found,) = watcher.execute(query).fetchone() or (0,)
        return int(found)

    with psycopg.connect(target) as holder, psycopg.connect(target, autocommit=True) as watcher:
        holder.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            until(waiting, timeout_s=30.0, what="pg_dump waits for the table")
            answer = backout(tmp_path, "db", "dump", variables={"DATABASE_URL": target})
            assert (answer.code, f"process {process.pid} is already doing it" in answer.err) == (6, True)
            process.kill()
        until(lambda: waiting() == 0, timeout_s=20.0, what="pg_dump ends with its parent, before its own time-out")
        holder.rollback()
    folder = tmp_path / ".backout" / "backups" / "staging" / "dumps"
    (folder / ".scratch-left").mkdir()
    assert "no dump yet" in backout(tmp_path, "db", "dumps", "list", variables={"DATABASE_URL": target}).out
    assert backout(tmp_path, "db", "dump", variables={"DATABASE_URL": target}).code == 0
    assert sorted(path.suffix for path in folder.iterdir()) == [".00000", ".json"]


CONFIGURATION = """
[app]
name = "shop"
[environments.staging]
platform = { provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }
database = { provider = "postgres", url_env = "DATABASE_URL" }
"""


@pytest.mark.long
def test_the_commands_from_the_dry_run_to_the_restore(tmp_path: Path, address: str) -> None:
    """dump, list, verify, restore; refusals with their exit codes; no password anywhere."""
    (tmp_path / "backout.toml").write_text(CONFIGURATION)
    variables = {"DATABASE_URL": url(address), "TARGET_URL": empty(address), "FULL_URL": url(address)}

    def typed(*arguments: str) -> tuple[int, str, str]:
        answer = backout(tmp_path, "db", *arguments, variables=variables)
        assert PASSWORD not in answer.out + answer.err
        return answer.code, answer.out, answer.err

    code, out, _ = typed("dump", "--dry-run")
    assert (code, "would take a dump" in out) == (0, True)
    assert not (tmp_path / ".backout" / "backups").exists()
    assert "no dump yet" in typed("dumps", "list")[1]
    answer = backout(tmp_path, "db", "dump", "--json", variables=variables)
    made = answer.json["dump"]
    assert isinstance(made, dict)
    assert (answer.code, made["rows"], made["problem"]) == (0, 1051, None)
    assert "no dump is due" in typed("dump", "--every", "1d")[1]
    assert str(made["id"]) in typed("dumps", "list")[1]
    assert typed("dumps", "prove", str(made["id"]))[0] == 0
    assert typed("dumps", "prove", "nothing")[0] == 2
    assert typed("dumps", "restore", str(made["id"]), "--into", "NOT_SET")[0] == 2
    assert typed("dumps", "restore", str(made["id"]), "--into", "TARGET_URL")[0] == 3  # nobody confirmed
    code, _, err = typed("dumps", "restore", str(made["id"]), "--into", "FULL_URL", "--yes")
    assert (code, "is not empty" in err) == (3, True)
    assert "would restore" in typed("dumps", "restore", str(made["id"]), "--into", "TARGET_URL", "--dry-run")[1]
    assert "the same as when they were dumped" in typed(
        "dumps", "restore", str(made["id"]), "--into", "TARGET_URL", "--yes"
    )[1]  # fmt: skip
    assert backout(tmp_path, "db", "check", "--json", variables=variables).json["path"] == "own"
