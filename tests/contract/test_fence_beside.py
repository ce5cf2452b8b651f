"""What writes to a database without anyone logging in: subscriptions, and jobs of pg_cron (a stand-in's table)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from fence_lab import DEADLINE, PASSWORD, Shop, running_server

from backout import config
from backout.model.database.fence import FenceOrder
from backout.providers.postgres.server.binaries import find_binaries
from backout.wiring.lines import make_card_lines

from polling import until
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.database.fence import FenceMark

CRON = """
CREATE TABLE cron.job (jobid bigserial PRIMARY KEY, schedule text NOT NULL, command text NOT NULL,
  database text NOT NULL, username text NOT NULL DEFAULT current_user, active boolean NOT NULL DEFAULT true);
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("fence")
    extensions = folder / "share" / "extension"
    extensions.mkdir(parents=True)
    (extensions / "pg_cron.control").write_text("default_version = '1.6'\nschema = cron\n", encoding="ascii")
    (extensions / "pg_cron--1.6.sql").write_text(CRON, encoding="ascii")
    settings = {
        "extension_control_path": f"$system:{folder}/share",
        "cron.database_name": "jobs",
        "wal_level": "logical",
    }
    with running_server(folder, **settings) as port:
        yield port


@pytest.fixture
def shop(port: int, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(port, tmp_path)
    with made.connect("postgres", "postgres") as session:
        session.execute("DROP DATABASE IF EXISTS jobs")
        session.execute("CREATE DATABASE jobs")
    with made.connect("postgres", "jobs") as session:
        session.execute("CREATE SCHEMA cron")
        session.execute("CREATE EXTENSION pg_cron")
        for database, active in ((made.name, True), (made.name, False), ("other", True)):
            session.execute(
                "INSERT INTO cron.job (schedule, command, database, active) VALUES ('* * * * *', 'x', %s, %s)",
                (database, active),
            )
    made.administer(
        f"CREATE SUBSCRIPTION feed_{made.name} CONNECTION 'dbname=nowhere' PUBLICATION p "
        "WITH (connect = false, slot_name = 'feed')",
        f"ALTER SUBSCRIPTION feed_{made.name} ENABLE",
    )
    yield made
    made.fence.close()
    made.administer(
        f"ALTER SUBSCRIPTION feed_{made.name} DISABLE",
        f"ALTER SUBSCRIPTION feed_{made.name} SET (slot_name = NONE)",
        f"DROP SUBSCRIPTION feed_{made.name}",
    )


def state(shop: Shop) -> object:
    """Return all that a fence changes."""
    with shop.connect("postgres", "jobs") as session:
        jobs = session.execute("SELECT * FROM cron.job ORDER BY 1").fetchall()
    return shop.roles(), jobs, shop.administer("SELECT subname, subenabled FROM pg_subscription ORDER BY 1")


def raise_fence(shop: Shop) -> FenceMark:
    return shop.fence.raise_fence(FenceOrder("r1", "ann@host", DEADLINE, (shop.name,)))


@pytest.mark.long
def test_jobs_and_subscriptions_are_stopped_and_go_on_as_before(shop: Shop) -> None:
    """Those of this database that were on, and no other."""
    before = state(shop)
    survey = shop.fence.survey()
    assert survey.refusals == ()
    assert (survey.jobs, survey.subscriptions) == (("1 (* * * * *)",), (f"feed_{shop.name}",))
    mark = raise_fence(shop)
    assert (mark.jobs, mark.subscriptions) == ((1,), (f"feed_{shop.name}",))
    with shop.connect("postgres", "jobs") as session:
        assert session.execute("SELECT jobid FROM cron.job WHERE active").fetchall() == [(3,)]
    proof = shop.fence.prove(mark.lsn, 0.3)
    assert proof.holds, proof.why
    with shop.connect("postgres", "jobs") as session:
        session.execute("UPDATE cron.job SET active = true")
    shop.administer(f"ALTER SUBSCRIPTION feed_{shop.name} ENABLE")
    why = "; ".join(shop.fence.prove(mark.lsn, 0.0).why)
    assert "job 1 (* * * * *) of pg_cron is active" in why
    assert f"subscription feed_{shop.name} is enabled" in why
    with shop.connect("postgres", "jobs") as session:
        session.execute("UPDATE cron.job SET active = false WHERE jobid = 2")
    shop.fence.open(mark)
    assert state(shop) == before


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_the_printed_line_starts_them_again(shop: Shop) -> None:
    """It goes to the database of pg_cron and back."""
    before = state(shop)
    mark = raise_fence(shop)
    line = f"PATH={find_binaries().directory}:$PATH; {mark.by_hand}"
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        check=False,
        env={"PATH": os.environ["PATH"], "DATABASE_ADMIN_URL": shop.url("postgres")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert state(shop) == before


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_the_card_opens_it_without_knowing_more_than_the_database(shop: Shop, tmp_path: Path) -> None:
    """Its lines are the same before and during a fence; the jobs are named to be typed, in their own database."""
    platform = 'provider = "cloudflare", script = "shop", account_id = "a"'
    (tmp_path / "backout.toml").write_text(
        f'[app]\nname = "shop"\n[environments.production]\nplatform = {{ {platform} }}\n'
        '[environments.production.database]\nprovider = "postgres"\nurl_env = "U"\nadmin_url_env = "ADMIN"\n',
        encoding="utf-8",
    )
    (command,) = make_card_lines(config.load(config.Environment(), start=tmp_path)).fence
    before = state(shop)
    for fenced in (False, True):
        if fenced:
            raise_fence(shop)
        done = subprocess.run(
            ["/bin/sh", "-c", f"PATH={find_binaries().directory}:$PATH; {command}"],
            check=False,
            env={"PATH": os.environ["PATH"], "ADMIN": shop.url("postgres")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert ("in database jobs: UPDATE cron.job SET active = true WHERE jobid = 1" in done.stdout) == fenced
        if fenced:
            with shop.connect("postgres", "jobs") as session:
                session.execute("UPDATE cron.job SET active = true WHERE jobid = 1")
        assert state(shop) == before
    assert shop.fence.read() is None


RAISES = """
import sys
from pathlib import Path
from backout.model.database.fence import FenceOrder
from backout.providers.postgres.fence.fence import PostgresFence
from backout.providers.postgres.server.binaries import find_binaries
url, name, folder = sys.argv[1:]
fence = PostgresFence(lambda: url, lambda: (name,), find_binaries, Path(folder))
sys.stdout.write("go\\n")
sys.stdout.flush()
for _ in range(1000):
    mark = fence.raise_fence(FenceOrder("r1", "ann@host", 1_900_000_000.0, (name,)))
    fence.open(mark)
"""


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_killed_at_any_moment_the_database_tells_what_is_to_be_given_back(shop: Shop) -> None:
    """Kills while it is raised and opened again and again, half of them while it stands; another process opens it."""
    before = state(shop)
    for kill in range(8):
        argv = (sys.executable, "-c", RAISES, shop.url("postgres"), shop.name, str(shop.folder))
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            await_line(process, "")
            if kill % 2:
                time.sleep(0.11 * kill)
            else:
                until(lambda: shop.fence.read() is not None, 60.0)
            process.send_signal(signal.SIGKILL)
        until(
            lambda: (
                not shop.administer(
                    "SELECT 1 FROM pg_stat_activity WHERE application_name = 'backout' AND pid <> pg_backend_pid()"
                )
            ),
            30.0,
        )
        standing = shop.fence.read()
        if standing is not None:
            assert not shop.write()
            shop.fence.open(standing)
        assert state(shop) == before, kill
        assert shop.write()
        assert PASSWORD not in str(standing)
