"""Commands that only look, as an administrator, at a database whose owner is the attacker: he stays what he is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout
from hostile_database import DEBIANS, HISTORY, VIEW, Hostile, hostile, shadows

from backout.errors import ProviderUnavailable
from backout.providers.postgres.restore.cluster import PostgresCluster
from backout.providers.postgres.restore.live import PostgresLive
from backout.providers.postgres.schema.catalog import PostgresCatalog
from backout.providers.postgres.server.connections import PostgresConnections
from backout.providers.postgres.server.identity import DatabaseIdentity
from backout.providers.postgres.server.replication import Replication

from extent import long

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cli_shell import Answer

CONFIG = """
[app]
name = "shop"
[environments.production]
platform = {{ provider = "cloudflare", script = "shop", account_id = "a" }}
[environments.production.database]
provider = "postgres"
url_env = "DATABASE_URL"
migrations = "{tool}"
backup = {{ wal = "stream" }}
"""
SHADOWED = ("ALTER DATABASE shop SET search_path = public, pg_catalog",)
INDEXED = (HISTORY, "CREATE INDEX ON public._prisma_migrations ((public.sly('x')))")
COUNTED = (
    HISTORY,
    "CREATE STATISTICS public.counted ON (public.sly('x')), migration_name FROM public._prisma_migrations",
)
CONSTANT = (
    HISTORY,
    "ALTER TABLE public._prisma_migrations ADD CHECK (public.sly('x') = 'x')",
    "ALTER DATABASE shop SET constraint_exclusion = on",
)
CAST = (
    "CREATE TYPE public.moment AS ENUM ('2026-01-01 00:00:00+00')",
    """CREATE FUNCTION public.told(public.moment) RETURNS timestamptz IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM public.trap(); RETURN '2026-01-01'; END $$""",
    "CREATE CAST (public.moment AS timestamptz) WITH FUNCTION public.told(public.moment) AS IMPLICIT",
    """CREATE TABLE public._prisma_migrations (migration_name text, started_at public.moment, finished_at
    timestamptz, rolled_back_at timestamptz, checksum text, logs text, applied_steps_count int)""",
    "INSERT INTO public._prisma_migrations VALUES ('20260101_init', '2026-01-01 00:00:00+00', now())",
)
ALEMBIC = ("CREATE TABLE public.alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY)",
           "INSERT INTO public.alembic_version VALUES ('aaa')",
           "CREATE INDEX ON public.alembic_version ((public.sly('x')))")  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[None, *map(long, DEBIANS[:1])],
    ids=lambda programs: "wheel" if programs is None else "debian",
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    with hostile(tmp_path_factory.mktemp("hostile"), request.param, track_commit_timestamp="on") as made:
        yield made


def typed(folder: Path, server: Hostile, *arguments: str, tool: str = "prisma", user: str = "postgres") -> Answer:
    folder.mkdir(exist_ok=True)
    (folder / "backout.toml").write_text(CONFIG.format(tool=tool))
    for place in ("prisma/migrations", "alembic/versions"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    return backout(folder, *arguments, "-e", "production", variables={"DATABASE_URL": server.url(user)})


def looked_at(folder: Path, server: Hostile, tool: str = "prisma") -> dict[str, Answer]:
    """Return what every command that only looks at the live database says."""
    commands = {
        "check": ("db", "check"),
        "status": ("db", "migrations", "status", "--json"),
        "point": ("db", "points", "add", "a-look"),
        "wal": ("db", "wal", "status"),
        "restore": ("db", "restore", "before migration 20260101_init", "--dry-run"),
        "dropped": ("db", "restore", "before drop of orders.note", "--dry-run"),
    }
    return {name: typed(folder, server, *arguments, tool=tool) for name, arguments in commands.items()}


def received(url: Callable[[], str]) -> object:
    with contextlib.closing(Replication(url, "backout")) as replication:
        return replication.view()


OBSERVES: dict[str, Callable[[Callable[[], str]], object]] = {
    "who it is": lambda url: DatabaseIdentity(url).read(),
    "connections": lambda url: PostgresConnections(url).read(),
    "cluster": lambda url: PostgresCluster(url, "backout").read(),
    "live": lambda url: PostgresLive(url).facts(),
    "dropped": lambda url: PostgresLive(url).find_drop("public.orders"),
    "schema changes": lambda url: PostgresLive(url).schema_changes(0.0, 2e9),
    "tables": lambda url: PostgresLive(url).tables(),
    "catalog": lambda url: PostgresCatalog(url).read(),
    "receiver": received,
}
"""What guard, rollback and restore ask besides, at a live database."""


@pytest.mark.parametrize(
    "attack",
    [(HISTORY, *shadows(), *SHADOWED), (VIEW,), INDEXED, COUNTED, CONSTANT, CAST],
    ids=["names", "view", "index", "statistics", "check", "cast"],
)
def test_what_the_owner_puts_there_is_not_run_as_administrator(
    server: Hostile, tmp_path: Path, attack: tuple[str, ...]
) -> None:
    """Names of Postgres's own before the catalog's, a view in place of the history, code that a plan evaluates."""
    server.reset()
    server.run("CREATE TABLE public.orders (id int PRIMARY KEY, note text)", *attack)
    server.run("ALTER TABLE public.orders DROP COLUMN note")
    server.pwned.unlink(missing_ok=True)
    answers = looked_at(tmp_path, server)
    for what, looks in OBSERVES.items():
        looks(server.url)
        assert server.gained() == [], what
    assert server.gained() == []
    assert answers["point"].code == 0
    if attack == (VIEW,):
        assert "public._prisma_migrations is a view, which cannot be a history" in answers["status"].out
    else:
        assert '"20260101_init"' in answers["status"].out


@pytest.mark.parametrize("attack", [INDEXED, COUNTED, CAST], ids=["index", "statistics", "cast"])
def test_who_wrote_a_migration_is_not_asked_where_the_question_runs_the_owners_code(
    server: Hostile, attack: tuple[str, ...]
) -> None:
    """Only a query tells the transaction; it is refused with what it would run, and asked where it runs nothing."""
    server.reset()
    server.run(*attack)
    server.pwned.unlink(missing_ok=True)
    with contextlib.suppress(ProviderUnavailable):
        PostgresLive(server.url).find_migration("20260101_init")
    assert server.gained() == []
    with pytest.raises(ProviderUnavailable, match=r"to an administrator's query it runs (function|type)"):
        PostgresLive(server.url).find_migration("20260101_init")
    server.reset()
    server.run(HISTORY, "CREATE INDEX ON public._prisma_migrations (started_at) WHERE rolled_back_at IS NULL")
    assert PostgresLive(server.url).find_migration("20260101_init") is not None


def test_alembics_heads_are_read_without_the_time_that_only_a_query_tells(server: Hostile, tmp_path: Path) -> None:
    """Where a plan would run the owner's code the head is told, undated."""
    server.reset()
    server.run(*ALEMBIC)
    server.pwned.unlink(missing_ok=True)
    answer = typed(tmp_path, server, "db", "migrations", "status", "--json", tool="alembic")
    assert server.gained() == []
    assert '"aaa"' in answer.out


def test_the_trap_works(server: Hostile) -> None:
    """Else nothing above would mean anything: a superuser's own query springs it."""
    server.reset()
    server.run(*INDEXED)
    server.pwned.unlink(missing_ok=True)
    server.run("SELECT count(*) FROM public._prisma_migrations", user="postgres")
    assert server.gained() == ["app is superuser", "a program ran"]


def test_the_application_itself_reads_as_ever(server: Hostile, tmp_path: Path) -> None:
    """Its own code in its own session is nobody's gain."""
    server.reset()
    server.run(*INDEXED)
    answer = typed(tmp_path, server, "db", "migrations", "status", "--json", user="app")
    assert server.gained() == []
    assert '"20260101_init"' in answer.out


def test_a_history_of_somebody_who_was_given_nothing_is_none(server: Hostile, tmp_path: Path) -> None:
    """A table that anybody could have put there is told; who was granted CREATE may have put it there."""
    server.reset()
    server.run("DROP ROLE IF EXISTS mallory", "CREATE ROLE mallory", user="postgres")
    server.run("GRANT CREATE ON SCHEMA public TO PUBLIC")
    server.run("SET ROLE mallory", HISTORY, user="postgres")
    answer = typed(tmp_path, server, "db", "migrations", "status")
    assert "public._prisma_migrations belongs to mallory" in " ".join(answer.out.split())
    server.run("GRANT CREATE ON SCHEMA public TO mallory")
    assert "20260101_init" in typed(tmp_path, server, "db", "migrations", "status").out
