"""The fence of a real Postgres: who gets through, what the proof sees, and what opens it when backout is gone."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from fence_lab import DEADLINE, PASSWORD, Shop, Writer, running_server

from backout.errors import AuthError, BackoutError, ProviderUnavailable
from backout.model.database.fence import FenceOrder
from backout.providers.postgres.fence.commit_check import PostgresCommitCheck
from backout.providers.postgres.server.binaries import find_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.database.fence import FenceMark, FenceProof


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_server(tmp_path_factory.mktemp("fence"), autovacuum_naptime="1s", wal_level="logical") as port:
        yield port


@pytest.fixture
def shop(port: int, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(port, tmp_path)
    yield made
    made.fence.close()


def raise_fence(shop: Shop) -> FenceMark:
    return shop.fence.raise_fence(FenceOrder("r1", "ann@host", DEADLINE, shop.fence.survey().planned))


def prove(shop: Shop, mark: FenceMark, quiet_s: float = 0.3) -> FenceProof:
    return shop.fence.prove(mark.lsn, quiet_s)


def reasons(shop: Shop) -> str:
    return "; ".join(each.reason for each in shop.fence.survey().refusals)


@pytest.mark.long
def test_a_role_that_was_let_in_by_hand_is_named(shop: Shop) -> None:
    """The comment on it still says that it is fenced."""
    mark = raise_fence(shop)
    assert mark.let_in == ()
    name = mark.roles[0].name
    shop.administer(f"ALTER ROLE {name} LOGIN")
    found = shop.fence.read()
    assert found is not None
    assert found.let_in == (name,)


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_what_goes_on_in_a_server_is_no_write(shop: Shop, port: int, tmp_path: Path) -> None:
    """Checkpoints, vacuum, the statistics, another database's writes, and a restore point of ours."""
    shop.administer("INSERT INTO orders SELECT FROM generate_series(1, 2000)", "DELETE FROM orders WHERE id > 100")
    other = Shop(port, tmp_path / "other")
    mark = raise_fence(shop)
    assert other.write()
    shop.administer("CHECKPOINT", "SELECT pg_create_restore_point('here')")
    shop.administer("VACUUM (ANALYZE) orders", "ANALYZE")
    proof = prove(shop, mark)
    assert proof.holds, proof.why
    assert proof.maintenance >= 1
    assert proof.commits > proof.maintenance


WRITES = (
    "INSERT INTO orders DEFAULT VALUES",
    "UPDATE orders SET at = now()",
    "COPY orders (id) FROM PROGRAM 'echo 900; echo 901'",
    "TRUNCATE orders",
    "SELECT nextval('orders_id_seq') FROM generate_series(1, 40)",  # the WAL has the first of 32 each
    "GRANT SELECT ON orders TO PUBLIC",
    "CREATE INDEX ON orders (at)",
    "SELECT lo_create(0)",
    "DO $$ BEGIN BEGIN INSERT INTO orders DEFAULT VALUES; EXCEPTION WHEN division_by_zero THEN END; END $$",
    "INSERT INTO fleeting VALUES (1)",
    "COMMENT ON TABLE orders IS 'other'",
)


@pytest.mark.long
def test_a_write_behind_the_fence_is_seen(shop: Shop) -> None:
    """Whoever makes it: here an administrator, whose session is gone before anyone looks."""
    shop.administer("INSERT INTO orders DEFAULT VALUES", "CREATE UNLOGGED TABLE fleeting (i int)")
    mark = raise_fence(shop)
    assert prove(shop, mark, quiet_s=0.0).holds
    for statement in WRITES:
        (since,) = shop.administer("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint")[0]
        shop.administer(statement)
        proof = shop.fence.prove(since, 0.0)
        assert not proof.holds, statement
        assert "1 committed transaction" in proof.why[0], (statement, proof.why)


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_a_session_that_comes_back_is_ended_again_and_named(shop: Shop) -> None:
    """A superuser of a person is let in, and no proof is given while he is."""
    shop.administer(f"CREATE ROLE {shop.name}_dba SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    mark = raise_fence(shop)
    with shop.connect(f"{shop.name}_dba") as person:
        person.execute("SELECT 1")
        proof = prove(shop, mark)
        assert proof.holds, proof.why
        assert proof.terminated == 1
        with pytest.raises(psycopg.OperationalError):
            person.execute("SELECT 1")
    dba = Shop.connect
    with Persistent(lambda: dba(shop, f"{shop.name}_dba")):
        proof = prove(shop, mark, quiet_s=0.5)
    assert not proof.holds
    assert f"{shop.name}_dba" in proof.why[0]


class Persistent(Writer):
    """A session that is opened again whenever it ends."""

    def __init__(self, connect: Any) -> None:
        self._connect = connect
        super().__init__(None, threads=1)  # type: ignore[arg-type]

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            try:
                with self._connect() as session:
                    while not self._stop.wait(0.01):
                        session.execute("SELECT 1")
            except psycopg.Error:
                continue


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_the_printed_line_opens_it_without_backout(shop: Shop) -> None:
    """As a shell runs it; then nothing is left of the fence."""
    before = shop.roles()
    mark = raise_fence(shop)
    assert shop.roles() != before
    environment = {
        "PATH": f"{find_binaries().directory}:{os.environ['PATH']}",
        "DATABASE_ADMIN_URL": shop.url("postgres"),
    }
    done = subprocess.run(["/bin/sh", "-c", mark.by_hand], check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert shop.roles() == before
    assert shop.fence.read() is None
    assert shop.fence.survey().by_hand == mark.by_hand


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_another_process_opens_it_and_knows_whose_it_is(shop: Shop) -> None:
    """Nothing but the database tells."""
    before = shop.roles()
    raise_fence(shop)
    elsewhere = shop.make_fence()
    standing = elsewhere.read()
    assert standing is not None
    assert (standing.run, standing.actor, standing.deadline) == ("r1", "ann@host", DEADLINE)
    elsewhere.open(standing)
    assert shop.roles() == before


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_where_no_further_session_is_let_in_the_kept_one_opens_it(shop: Shop) -> None:
    """All places are taken, or the administrator lost his own LOGIN."""
    shop.administer(f"CREATE ROLE {shop.name}_dba SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    before = shop.roles()
    fence = shop.make_fence(f"{shop.name}_dba")
    mark = fence.raise_fence(FenceOrder("r1", "ann@host", DEADLINE, (shop.name,)))
    shop.administer(f"ALTER ROLE {shop.name}_dba NOLOGIN")
    fence.open(mark)
    shop.administer(f"ALTER ROLE {shop.name}_dba LOGIN")
    assert shop.roles() == before


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_sessions_that_do_not_end_open_it_again(shop: Shop) -> None:
    """An administrator who may not end a superuser's session takes nothing."""
    shop.administer(
        f"CREATE ROLE {shop.name}_dba CREATEROLE LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_signal_backend",
        f"GRANT {shop.name} TO {shop.name}_dba WITH ADMIN OPTION",
        f"GRANT CONNECT ON DATABASE {shop.name} TO {shop.name}_dba",
        f"GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint) TO {shop.name}_dba",
    )
    before, fence = shop.roles(), shop.make_fence(f"{shop.name}_dba", settles_within_s=1.0)
    assert fence.survey().refusals == ()
    with shop.connect("postgres"), pytest.raises(BackoutError, match="sessions of postgres do not end"):
        fence.raise_fence(FenceOrder("r1", "ann@host", DEADLINE, (shop.name,)))
    assert shop.roles() == before
    mark = fence.raise_fence(FenceOrder("r1", "ann@host", DEADLINE, (shop.name,)))
    assert fence.prove(mark.lsn, 0.2).holds
    fence.open(mark)
    assert shop.roles() == before


def test_one_write_of_the_application_is_tried_and_read_back(shop: Shop) -> None:
    """A plain role can, in its own search path; behind the fence, or where it may only read, it is told why not."""
    check = PostgresCommitCheck(lambda: shop.url(shop.name))
    shop.administer(f"ALTER ROLE {shop.name} SET search_path = strange")
    rows = shop.administer("SELECT count(*) FROM orders")
    assert check.commit_once() == shop.name
    assert shop.administer("SELECT count(*) FROM orders") == rows
    mark = shop.fence.raise_fence(FenceOrder("r1", "ann@host", DEADLINE, (shop.name,)))
    with pytest.raises(ProviderUnavailable, match="not permitted to log in"):
        check.commit_once()
    shop.fence.open(mark)
    wrong = PostgresCommitCheck(lambda: shop.url(shop.name).replace(PASSWORD, "wrong-password"))
    with pytest.raises(AuthError, match=r"^database: the database refuses the connection: .*password") as refused:
        wrong.commit_once()
    assert "wrong-password" not in str(refused.value)
    began = "FUNCTION pg_catalog.pg_current_xact_id()"
    shop.administer(f"REVOKE EXECUTE ON {began} FROM PUBLIC")
    with pytest.raises(BackoutError, match="the database refuses a write that changes no row: permission denied for"):
        check.commit_once()
    shop.administer(f"GRANT EXECUTE ON {began} TO PUBLIC")
    shop.administer(f"ALTER ROLE {shop.name} SET default_transaction_read_only = on")
    with pytest.raises(BackoutError, match="are read-only"):
        check.commit_once()
