"""A night of Scenario 4 with the real program: a migration breaks the old code, and database and code go back."""

from __future__ import annotations

import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.twin.npm import find_sample_application

from drillbook import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drillbook import Drillbook, Trial

pytestmark = pytest.mark.rotating("schema nights", 2)

DROP = "20261125090000_drop_total"
SQL = 'ALTER TABLE "orders" DROP COLUMN "total_cents"; UPDATE "orders" SET "note" = \'lost\' WHERE "id" % 2 = 0;\n'
PRODUCTION = ("-m", "the night of the drill", "--confirm", "production")


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("night"), template()) as made:
        with made.connect() as connection:
            connection.execute("DROP TABLE ticks")
        yield made


def on_own_server(trial: Trial, lab: Lab) -> Path:
    """Give the trial the lab's server as its database, with an archive; return the folder of migrations."""
    files = trial.folder / "migrations"
    shutil.copytree(find_sample_application(trial.folder) / "prisma" / "migrations", files)
    url = trial.folder / "own-url"
    url.write_text(lab.dsn, encoding="utf-8")
    url.chmod(0o600)
    start, stop = map(shlex.join, lab.commands)
    archive = f'{{ directory = "{trial.folder / "backups"}", wal = "stream" }}'
    server = f"{{ data_directory = '{lab.data}', start = '''{start}''', stop = '''{stop}''' }}"
    own = (
        f'database = {{ provider = "postgres", url_file = "{url}", migrations = "prisma", migrations_path = "{files}", '
        f'backup = {archive}, server = {server} }}\ndeploy = {{ command = "npm run deploy:production" }}'
    )
    text = trial.config.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("database = "))
    trial.config.write_text(text.replace(line, own), encoding="utf-8")
    return files


@pytest.mark.both_homes
@pytest.mark.long
def test_a_night_of_scenario_4(drillbook: Drillbook, lab: Lab) -> None:
    """Guard holds and names both ways; the whole goes back to the exact moment before the migration, and is proved."""
    with lab.connect() as connection:
        connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
        connection.execute("SELECT pg_reload_conf()")
    trial = drillbook.trial().replace((r'watch = "\d+s"', 'watch = "8s"'))
    files = on_own_server(trial, lab)
    trial.make_live(drillbook.good)
    assert trial.run("db", "migrations", "apply", *PRODUCTION).code == 0
    with lab.connect() as connection:
        connection.execute("UPDATE _prisma_migrations SET started_at = '2026-01-01', finished_at = '2026-01-01'")
        connection.execute("INSERT INTO models SELECT n, 'model ' || n, 100 FROM generate_series(1, 9) n")
        connection.execute(
            "INSERT INTO orders (model_id, quantity, email, total_cents) "
            "SELECT 1 + n % 9, 1, n || '@example.com', n * 100 FROM generate_series(1, 5000) n"
        )
    started = trial.run("db", "wal", "start")
    try:
        assert started.code == 0, started.err
        assert trial.run("db", "backup").code == 0
        (files / DROP).mkdir()
        (files / DROP / "migration.sql").write_text(SQL, encoding="utf-8")
        checked = trial.run("db", "migrations", "check", str(files), "--json").json["migrations"]
        assert [each["verdict"] for each in checked] == ["safe", "safe", "breaking"]
        assert trial.run("db", "migrations", "apply", *PRODUCTION).code == 0
        trial.make_live(drillbook.bad)
        with lab.connect() as connection:
            connection.execute(
                "INSERT INTO orders (model_id, quantity, email) SELECT 1, 1, 'new' FROM generate_series(1, 12)"
            )
        watched = trial.run("guard", "--mode", "act", "--json")
        assert watched.code == 3, watched.err
        assert any("--with-database" in option for option in watched.json["options"])
        refused = trial.run("rollback", *PRODUCTION)
        assert refused.code == 3
        assert "A, roll forward" in refused.err
        assert "orders (12)" in refused.err
        together = trial.run("rollback", "--with-database", *PRODUCTION, "--also-back", "slot:lab", "--json")
        assert together.code in (0, 7), together.err
        compared, before = (together.json[name] for name in ("comparison", "comparison_before"))
        assert isinstance(compared, dict)
        assert isinstance(before, dict)
        assert (compared["of"], compared["differs"], compared["behind"], before["differs"]) == ("swap", [], [], [])
        assert compared["rows"] > 5000, "rows and catalogs of all databases"
        assert f"second check: {compared['sentence']}" in together.err
        assert trial.live() == drillbook.good
        assert lab.rows("SELECT count(*), sum(total_cents) FROM orders") == [(5000, 1250250000)]
        status = trial.run("db", "migrations", "status", "--json").json
        assert DROP in str(status)
        assert trial.run("db", "backups", "list").code == 1
    finally:
        trial.run("db", "wal", "stop")


DEPLOYS = """
import sys
from backout.config import Environment, load
from backout.wiring.toolbox import make_toolbox
from pathlib import Path
file = Path("backout.toml").resolve()
tools = make_toolbox(load(Environment({}), start=file.parent, path=file, environment="production"))
print(tools.deployments.activate(sys.argv[1], message="the mended version").id)
"""
MENDS = 'ALTER TABLE "orders" ADD COLUMN "total_cents" INTEGER;\n'


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_a_night_that_goes_forward(drillbook: Drillbook, lab: Lab) -> None:
    """The way out of the refusal is a command: the team's own deployment, read back, its migration with it."""
    trial = drillbook.trial().replace((r'watch = "\d+s"', 'watch = "8s"'))
    files = on_own_server(trial, lab)
    trial.make_live(drillbook.good)
    assert trial.run("db", "migrations", "apply", *PRODUCTION).code == 0
    with lab.connect() as connection:
        connection.execute("UPDATE _prisma_migrations SET started_at = '2026-01-01', finished_at = '2026-01-01'")
    (files / DROP).mkdir()
    (files / DROP / "migration.sql").write_text(SQL, encoding="utf-8")
    assert trial.run("db", "migrations", "apply", *PRODUCTION).code == 0
    trial.make_live(drillbook.bad)
    refused = trial.run("rollback", *PRODUCTION)
    assert refused.code == 3
    assert "`backout roll-forward -e production -m WHY --config " in refused.err
    failed = trial.run("roll-forward", *PRODUCTION, "--no-wait")  # there is no package.json in the trial's folder
    assert failed.code == 1
    assert "nothing new is live" in failed.err
    assert trial.live() == drillbook.bad

    (trial.folder / "deploy.py").write_text(DEPLOYS, encoding="utf-8")
    apply = shlex.join([str(PROGRAM), "db", "migrations", "apply", "-e", "production", *PRODUCTION])
    trial.replace((r"npm run deploy:production", f"{apply} && {sys.executable} deploy.py {drillbook.good}"))
    mended = "20261125100000_total_again"
    (files / mended).mkdir()
    (files / mended / "migration.sql").write_text(MENDS, encoding="utf-8")
    shown = trial.run("roll-forward", "--dry-run", "--json").json
    assert [step["action"] for step in shown["plan"]["steps"]][:3] == ["check_migrations", "deploy", "read_new"]
    assert shown["plan"]["notes"] == [f"migration {mended} is safe for the code that is live until then"]
    assert trial.live() == drillbook.bad
    assert trial.run("roll-forward", "-m", "total is back", "--no-input").code == 3  # nobody confirmed it
    gone = trial.run("roll-forward", *PRODUCTION, "--json")
    assert gone.code in (0, 7), gone.err
    assert f"applied  {mended}" in gone.err
    assert (gone.json["live_version"], gone.json["migration_head"]) == (drillbook.good, mended)
    assert trial.live() == drillbook.good
    (report,) = trial.reports()
    assert "Rolled forward" in report.read_text(encoding="utf-8")
    again = trial.run("runs", "resume", gone.json["run_id"], "--json")
    assert again.json["live_version"] == drillbook.good
    trial.replace((r"deploy\.py", f"deploy.py --password={lab.dsn}"))
    assert trial.run("roll-forward", *PRODUCTION).code == 2  # a secret stands in the command
