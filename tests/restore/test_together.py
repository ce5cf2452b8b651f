"""Scenario 4, option B: code and database back together, the database a real one; and the ways that a refusal names."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from cli_shell import make_shell
from kept import template
from recovery_lab import Lab, opened
from values import replace

from backout.cli.support.also_back import agree, went_back_lines
from backout.errors import DecisionNeeded, ProviderUnavailable, Refused, UsageError, WorldMoved
from backout.model.plan import Plan, PlanRefused
from backout.plan.rollback import Request
from backout.providers.files.migrations import PrismaMigrations
from backout.providers.memory import World
from backout.providers.postgres.schema.deploy import PrismaDeploy
from backout.providers.postgres.schema.history import PRISMA
from backout.providers.postgres.schema.schema import PostgresHistory
from backout.runbook.procedures import Actions
from backout.runbook.recovery.restore import plan_rescue, plan_side
from backout.runbook.recovery.restoring import make_actions
from backout.runbook.rollback.remediation_options import add_ways, list_data_lines
from backout.runbook.rollback.rollback import prepare
from backout.runbook.rollback.with_database import prepare_together

from line import Story, equip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.incident.incident import Run
    from backout.runbook.recovery.tools import RestoreTools
    from backout.runbook.toolbox import Toolbox

pytestmark = pytest.mark.rotating("restores", 5)

INIT = "CREATE TABLE orders (id int PRIMARY KEY, total int NOT NULL, status text NOT NULL)"
DROP = "ALTER TABLE orders DROP COLUMN total; UPDATE orders SET status = 'lost' WHERE id % 2 = 0"


class Night:
    """A good version that was proven on the old schema; a migration that breaks it; a bad version on top."""

    def __init__(self, lab: Lab, folder: Path, sql: str = DROP) -> None:
        self.lab = lab
        self.files = folder / "migrations"
        with lab.connect() as connection:
            connection.execute("DROP TABLE ticks")
        self._write("0001_init", INIT)
        self.deploy()
        with lab.connect() as connection:
            connection.execute("INSERT INTO orders SELECT n, n, 'paid' FROM generate_series(1, 100) n")
            connection.execute(
                "UPDATE _prisma_migrations SET started_at = now() - interval '1h', finished_at = now() - interval '1h'"
            )
        lab.base("base")
        self.story = Story(folder / "journal.sqlite", beginning=World(time.time() - 700))
        lab.journal = self.story.tools().journal  # type: ignore[assignment]
        self._write("0002_drop_total", sql)
        self.deploy()
        with lab.connect() as connection:
            names, values = (
                ("id, total, status", "n, n, 'new'") if "total" in self.columns() else ("id, status", "n, 'new'")
            )
            connection.execute(f"INSERT INTO orders ({names}) SELECT {values} FROM generate_series(201, 207) n")  # noqa: S608
        lab.archived()

    def _write(self, name: str, sql: str) -> None:
        (self.files / name).mkdir(parents=True)
        (self.files / name / "migration.sql").write_text(sql, encoding="utf-8")

    def deploy(self) -> None:
        PrismaDeploy(lambda: self.lab.dsn).apply(PrismaMigrations(self.files).read())

    def tools(self) -> Toolbox:
        tools = self.story.tools()
        return equip(
            tools,
            schema=PostgresHistory(lambda: self.lab.dsn, PRISMA),
            migrations=PrismaMigrations(self.files),
            deploy_command="npm run deploy:production",
            restoring=lambda: self.lab.tools(journal=tools.journal, runs=tools.runs, receiver="lab"),
        )

    def drive(self, tools: Toolbox, run: str) -> Run:
        assert tools.recovery.restoring is not None
        both = Actions(tools, make_actions(tools.recovery.restoring()))
        return tools.journal.drive(run, both, actor="ops@host")

    def columns(self) -> set[str]:
        query = (
            "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0 AND NOT attisdropped"
        )
        return {str(name) for (name,) in self.lab.rows(query)}


def rescued(restoring: RestoreTools, target: str) -> Plan:
    return plan_rescue(restoring, target, conflicts="live", skip=(), queues=False)


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("together"), template(), templates=True) as made:
        yield made


def test_the_refusal_names_both_ways_with_what_each_costs(lab: Lab, tmp_path: Path) -> None:
    """A: which migration, and how to deploy. B: the exact position, and the rows written since, by table."""
    night = Night(lab, tmp_path)
    tools = night.tools()
    situation, refused = prepare(tools, Request(message="it fails"))
    assert isinstance(refused, PlanRefused)
    assert "0002_drop_total breaks the old code" in refused.reason
    forward, back, data = add_ways(tools, refused, situation).options[:3]
    assert forward.startswith("A, roll forward: write a migration that makes 0002_drop_total fit")
    assert "`npm run deploy:production`" in forward
    assert back.startswith("B, code and database together: `backout rollback --with-database -e production")
    assert "began the migration" in back
    assert "orders (7)" in back
    side = 'backout db restore "before migration 0002_drop_total" -e production --side'
    assert data.startswith(f"C, the data alone: `{side}` shows it as it was")
    quick = add_ways(tools, refused, situation, measured=False).options
    assert "--with-database --dry-run" in quick[1]
    assert not any("db restore" in option for option in quick)  # nobody looked whether it would work
    lines = list_data_lines(tools, situation)
    assert lines[0].startswith(f"{side}  # the data as it was")
    assert tools.recovery.restoring is not None
    for line in (side, *lines[1:]):  # what is offered can be planned
        _, _, _, target, *_, how = shlex.split(line.partition("  #")[0])
        made = (
            plan_side(tools.recovery.restoring(), target)
            if how == "--side"
            else rescued(tools.recovery.restoring(), target)
        )
        assert made.steps


def test_code_and_database_go_back_together(lab: Lab, tmp_path: Path) -> None:
    """The database as it was before the migration, then the old code; what was there stays under a name."""
    night = Night(lab, tmp_path)
    tools = night.tools()
    _, plan = prepare_together(tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    order = [step.action for step in plan.steps]
    assert order.index("db_exchange") < order.index("prove") < order.index("activate")
    assert "the database goes back to before migration 0002_drop_total" in plan.notes
    assert night.columns() == {"id", "status"}
    run = night.drive(tools, tools.journal.submit(plan, actor="ops@host", reason="it fails"))
    assert night.story.world.live.sole == night.story.good.id
    assert night.columns() == {"id", "total", "status"}
    assert lab.rows("SELECT count(*), sum(total), count(*) FILTER (WHERE status = 'paid') FROM orders") == [
        (100, 5050, 100)
    ]
    assert tools.rollback.schema is not None
    assert tools.rollback.schema.read().head == "0001_init"
    assert tools.incident.reports.of_run(run.id) is not None
    assert list(lab.data.parent.glob("data.backout-old-*"))


@pytest.mark.long
def test_what_was_interrupted_behind_the_swap_goes_on(lab: Lab, tmp_path: Path) -> None:
    """The platform is away when the database is back already: the same run ends it, and restores nothing twice."""
    night = Night(lab, tmp_path)
    tools = night.tools()
    _, plan = prepare_together(tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    run = tools.journal.submit(plan, actor="ops@host", reason="it fails")
    away = True

    def call(name: str) -> None:
        if away and name == "deployments.activate":
            raise KeyboardInterrupt

    night.story.world.before_call = call
    with pytest.raises(KeyboardInterrupt):
        night.drive(tools, run)
    assert night.columns() == {"id", "total", "status"}
    assert night.story.world.live.sole == night.story.bad.id
    away = False
    night.drive(night.tools(), run)
    assert night.story.world.live.sole == night.story.good.id
    assert len(list(lab.data.parent.glob("data.backout-old-*"))) == 1


@pytest.mark.long
def test_a_hotfix_that_came_meanwhile_keeps_its_database(lab: Lab, tmp_path: Path) -> None:
    """The world moved while the side instance was made: nothing is swapped beneath the new version."""
    night = Night(lab, tmp_path)
    tools = night.tools()
    _, plan = prepare_together(tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    run = tools.journal.submit(plan, actor="ops@host", reason="it fails")
    hotfix = night.story.world.upload("hotfix")
    night.story.world.deploy(hotfix)
    with pytest.raises(WorldMoved):
        night.drive(tools, run)
    assert night.columns() == {"id", "status"}
    assert night.story.world.live.sole == hotfix.id
    assert not list(lab.data.parent.glob("data.backout-old-*"))


def test_over_a_safe_migration_the_code_goes_back_alone(lab: Lab, tmp_path: Path) -> None:
    """A restore that nothing needs would lose what is new: it is refused, with the command that does."""
    night = Night(lab, tmp_path, "ALTER TABLE orders ADD COLUMN note text")
    with pytest.raises(UsageError, match="can go back alone"):
        prepare_together(night.tools(), Request(message="it fails"))


@pytest.mark.parametrize("missing", ["no server", "no database", "down"])
def test_a_way_that_is_shut_says_why(lab: Lab, tmp_path: Path, missing: str) -> None:
    """Without a server of one's own, or an archive that answers, option B names what is missing."""
    night = Night(lab, tmp_path)
    tools = night.tools()
    situation, refused = prepare(tools, Request(message="it fails"))
    assert isinstance(refused, PlanRefused)
    assert tools.recovery.restoring is not None
    restoring = tools.recovery.restoring()

    def away() -> object:
        raise ProviderUnavailable("the database does not answer")

    other = {"no server": lambda: replace(restoring, server=None), "no database": None, "down": away}[missing]
    shut = equip(tools, restoring=other)  # type: ignore[arg-type]
    options = add_ways(shut, refused, situation).options
    assert "is closed" in options[1]
    assert any("db restore" in option for option in options) is (missing == "no server")
    assert bool(list_data_lines(shut, situation)) is (missing == "no server")
    with pytest.raises((UsageError, Refused, ProviderUnavailable)):
        prepare_together(shut, Request(message="it fails"))


@pytest.mark.long
def test_another_database_goes_back_with_the_code_only_by_its_name(lab: Lab, tmp_path: Path) -> None:
    """Refused with the whole command; unagreed it ends before the stop; typed at a terminal it goes."""
    with lab.connect() as connection:
        connection.execute("CREATE DATABASE crm")
    other = lab.dsn.replace("dbname=postgres", "dbname=crm")
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute("CREATE TABLE leads (id int)")
    night = Night(lab, tmp_path)
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute("INSERT INTO leads SELECT generate_series(1, 777)")
    tools = night.tools()
    situation, refused = prepare(tools, Request(message="it fails"))
    assert isinstance(refused, PlanRefused)
    back = add_ways(tools, refused, situation).options[1]
    assert "other databases of its server go back too" in back
    _, plan = prepare_together(tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    command = "backout rollback --with-database -e production"
    with pytest.raises(DecisionNeeded) as asked:
        agree(make_shell(tmp_path), plan, (), command, "one database alone: so")
    assert f"Agree to it by name: `{command} --also-back crm=777`." in asked.value.options
    assert "One database alone: so." in asked.value.options
    with pytest.raises(WorldMoved, match="crm, with 777 row versions"):
        night.drive(tools, tools.journal.submit(plan, actor="ops@host", reason="it fails"))
    assert night.columns() == {"id", "status"}
    assert night.story.world.live.sole == night.story.bad.id
    plan = agree(make_shell(tmp_path, typed="crm\n", terminal=True), plan, (), command, "")
    run = night.drive(tools, tools.journal.submit(plan, actor="ops@host", reason="it fails"))
    assert night.columns() == {"id", "total", "status"}
    assert night.story.world.live.sole == night.story.good.id
    told = "\n".join(went_back_lines(tools.runs, run))
    assert "goes back too: database crm, with 777 row versions written since by the WAL" in told
    assert "advanced past what was handed out before, read back by another session" in told
    assert "`backout db restore --release -e production` removes it" in told
    with psycopg.connect(other) as connection:
        assert connection.execute("SELECT count(*) FROM leads").fetchone() == (0,)
