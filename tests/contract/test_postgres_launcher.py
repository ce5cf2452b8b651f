"""The Postgres launcher on a real server: create, start, stop, restart, and a start after everything was killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from backout.errors import BackoutError, Busy, UsageError
from backout.providers.child import is_running
from backout.providers.postgres.server.binaries import Binaries, find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.template import read_system_identifier, run_tool

from polling import PATIENCE_S, until
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "only on loopback"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("postgres-template")


@pytest.fixture
def server(tmp_path: Path, cache: Path) -> Iterator[PostgresServer]:
    made = PostgresServer(tmp_path / "data", find_binaries())
    made.create(cache_directory=cache)
    yield made
    made.stop(mode="immediate")


def query(port: int, text: str, password: str = PASSWORD) -> list[tuple[object, ...]]:
    dsn = f"host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=5"
    with psycopg.connect(dsn, password=password, autocommit=True) as connection:
        cursor = connection.execute(text)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def test_what_is_written_is_there_after_a_restart_on_the_same_port(server: PostgresServer) -> None:
    """A clean stop and start keep data, port and password."""
    port = server.start(password=PASSWORD).port
    query(port, "CREATE TABLE kept AS SELECT 42 AS answer")
    again = server.restart()
    assert again.port == port
    assert query(again.port, "SELECT answer FROM kept") == [(42,)]
    server.stop()
    assert server.status() is None
    assert "shut down" in run_tool(find_binaries(), "pg_controldata", str(server.data_directory))


def test_the_settings_that_recovery_needs_are_on(server: PostgresServer) -> None:
    """Commit times, WAL summaries and streaming are on, and fsync is not off."""
    port = server.start(password=PASSWORD).port
    names = ("wal_level", "track_commit_timestamp", "summarize_wal", "wal_log_hints", "fsync", "data_checksums")
    values = [query(port, f"SHOW {name}")[0][0] for name in names]
    assert values == ["replica", "on", "on", "on", "on", "on"]


def test_a_setting_of_the_caller_wins(tmp_path: Path, cache: Path) -> None:
    """A drill may switch fsync off for its own server."""
    server = PostgresServer(tmp_path / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=cache)
    try:
        assert query(server.start(password=PASSWORD).port, "SHOW fsync") == [("off",)]
    finally:
        server.stop(mode="immediate")


def test_a_wrong_password_does_not_get_in(server: PostgresServer) -> None:
    """TCP asks for the password, on loopback too."""
    port = server.start(password=PASSWORD).port
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        query(port, "SELECT 1", password="wrong")


def test_it_listens_on_loopback_alone_and_its_socket_is_private(server: PostgresServer) -> None:
    """No other address is bound, and nobody else may enter the socket's directory."""
    status = server.start(password=PASSWORD)
    assert query(status.port, "SHOW listen_addresses") == [("127.0.0.1",)]
    assert status.socket_directory.stat().st_mode & 0o777 == 0o700
    with psycopg.connect(status.socket_dsn) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("postgres",)
    server.stop()
    assert not status.socket_directory.exists()


def test_nothing_of_the_machine_is_changed_for_it(server: PostgresServer) -> None:
    """The files stay the caller's; no account is made and no folder on the way is opened up."""
    before = server.data_directory.parent.stat()
    passwd = Path("/etc/passwd").read_bytes()
    server.start(password=PASSWORD)
    after = server.data_directory.parent.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    assert server.data_directory.stat().st_uid == os.geteuid()
    assert Path("/etc/passwd").read_bytes() == passwd


def test_two_copies_of_the_template_are_two_databases(tmp_path: Path, cache: Path) -> None:
    """Each data directory has its own system identifier, in the control file and in its WAL."""
    servers = [PostgresServer(tmp_path / name, find_binaries()) for name in ("one", "two")]
    for server in servers:
        server.create(cache_directory=cache)
    identifiers = {read_system_identifier(server.data_directory) for server in servers}
    assert len(identifiers) == 2
    try:
        status = servers[0].start(password=PASSWORD)
        shown = query(status.port, "SELECT system_identifier FROM pg_control_system()")
        assert shown == [(read_system_identifier(servers[0].data_directory),)]
        backup = tmp_path / "backup"
        connection = f"host={status.socket_directory} port={status.port} user=postgres"
        run_tool(find_binaries(), "pg_basebackup", "-d", connection, "-D", str(backup), "-c", "fast")
        run_tool(find_binaries(), "pg_verifybackup", str(backup))
    finally:
        servers[0].stop(mode="immediate")


def test_create_leaves_an_existing_data_directory_alone(server: PostgresServer, cache: Path) -> None:
    """A second create is no second database."""
    before = read_system_identifier(server.data_directory)
    assert server.create(cache_directory=cache) is False
    assert read_system_identifier(server.data_directory) == before


def test_without_a_cache_initdb_makes_the_same(tmp_path: Path) -> None:
    """The template is an optimisation, not a different database."""
    server = PostgresServer(tmp_path / "data", find_binaries())
    assert server.create() is True
    try:
        assert query(server.start(password=PASSWORD).port, "SHOW track_commit_timestamp") == [("on",)]
    finally:
        server.stop(mode="immediate")


def test_a_second_server_on_the_same_directory_is_refused(server: PostgresServer) -> None:
    """Exit 6, naming the process that runs; the running one is not touched."""
    port = server.start(password=PASSWORD).port
    with pytest.raises(Busy, match="process"):
        PostgresServer(server.data_directory, find_binaries()).start()
    assert query(port, "SELECT 1") == [(1,)]


def test_a_server_found_on_the_directory_can_be_taken_over(server: PostgresServer) -> None:
    """The twin's own leftover is stopped, then started anew."""
    first = server.start(password=PASSWORD)
    other = PostgresServer(server.data_directory, find_binaries())
    second = other.start(take_over=True)
    try:
        assert second.pid != first.pid
        assert query(second.port, "SELECT 1") == [(1,)]
    finally:
        other.stop()


def test_after_kill_9_of_the_postmaster_the_next_start_recovers(server: PostgresServer) -> None:
    """The killed server is a zombie here, and its processes may linger: neither stops the next start."""
    first = server.start(password=PASSWORD)
    query(first.port, "CREATE TABLE survivors AS SELECT generate_series(1, 1000) AS n")
    os.kill(first.pid, signal.SIGKILL)
    again = server.start()
    assert query(again.port, "SELECT count(*) FROM survivors") == [(1000,)]
    assert again.socket_directory != first.socket_directory
    assert not first.socket_directory.exists()


_DAEMON = """
import sys, time
from pathlib import Path
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
status = PostgresServer(Path(sys.argv[1]), find_binaries()).start(password=sys.argv[2])
print(status.pid, status.port, flush=True)
sys.stdin.read()
"""


def test_a_server_does_not_outlive_its_killed_parent(server: PostgresServer) -> None:
    """Whoever kills the daemon with -9 ends the server as well, cleanly, and the next daemon starts it again."""
    argv = (sys.executable, "-c", _DAEMON, str(server.data_directory), PASSWORD)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as daemon:
        pid, port = (int(word) for word in await_line(daemon, "").split())
        query(port, "CREATE TABLE kept AS SELECT 1 AS one")
        daemon.kill()
    until(lambda: not is_running(pid), what="the server ended with its parent")
    again = server.start()
    assert query(again.port, "SELECT one FROM kept") == [(1,)]
    left = list(again.socket_directory.parent.glob(f"{again.socket_directory.name[:21]}*"))
    assert left == [again.socket_directory]


def test_a_stale_lock_file_that_names_a_living_stranger_is_no_obstacle(server: PostgresServer) -> None:
    """After a reboot the pid in postmaster.pid may belong to anything; a program that is no Postgres is left alone."""
    with subprocess.Popen((sys.executable, "-c", "input()", "postgres"), stdin=subprocess.PIPE) as stranger:
        lock = f"{stranger.pid}\n{server.data_directory}\n0\n1\n/nowhere\n127.0.0.1\n 1 1\nready   \n"
        (server.data_directory / "postmaster.pid").write_text(lock, encoding="ascii")
        assert query(server.start(password=PASSWORD).port, "SELECT 1") == [(1,)]
        assert stranger.poll() is None
        stranger.kill()


def test_a_missing_installation_says_what_to_install(tmp_path: Path) -> None:
    """The message names the extra."""
    with pytest.raises(UsageError) as missing:
        find_binaries(tmp_path)
    assert missing.value.hint is not None
    assert "[database]" in missing.value.hint


def test_a_directory_without_a_database_is_a_usage_error(tmp_path: Path) -> None:
    """Nothing is created by a start."""
    with pytest.raises(UsageError, match="not a Postgres data directory"):
        PostgresServer(tmp_path, find_binaries()).start()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_start_quotes_its_log(server: PostgresServer) -> None:
    """The reader sees Postgres's own words and no process stays behind."""
    with pytest.raises(BackoutError, match="max_connections"):
        PostgresServer(server.data_directory, find_binaries(), settings={"max_connections": "many"}).start()
    assert server.status() is None


def test_a_program_of_the_installation_that_fails_is_quoted(tmp_path: Path) -> None:
    """`run_tool` raises with the program's own message."""
    with pytest.raises(BackoutError, match="pg_controldata failed"):
        run_tool(find_binaries(), "pg_controldata", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="no program"):
        Binaries(tmp_path).path("postgres")


_WITHOUT_NAMESPACES = """
import sys
import tempfile
from pathlib import Path
import psycopg
from backout.providers.child import find_unprivileged_prefix
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
assert not any("unshare" in word for word in find_unprivileged_prefix())
server = PostgresServer(Path(sys.argv[1]) / "data", find_binaries())
server.create(cache_directory=Path(sys.argv[1]) / "cache")
status = server.start(password="x")
dsn = f"host=127.0.0.1 port={status.port} user=postgres password=x"
with psycopg.connect(dsn) as connection:
    assert connection.execute("SELECT 1").fetchone() == (1,)
server.restart()
server.stop()
assert server.status() is None
"""


def test_it_runs_where_user_namespaces_are_off(tmp_path: Path) -> None:
    """As root it runs as nobody, who then owns the data directory and nothing else."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("setpriv", "sh"):
        (programs / name).symlink_to(shutil.which(name) or name)
    home = Path(tempfile.mkdtemp(prefix="backout-test-"))  # nobody may not enter pytest's folders
    home.chmod(0o755)
    try:
        argv = (sys.executable, "-c", _WITHOUT_NAMESPACES, str(home))
        environment = {"PATH": str(programs)}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        assert home.stat().st_uid == os.geteuid()
    finally:
        shutil.rmtree(home)
