"""A server with the lab's schema, its backups and WAL, and the command line beside it under the least roles."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from cli_shell import Answer
from cli_shell import backout as typed
from recovery_lab import Lab, opened, position_behind

from backout.providers.child import find_unprivileged_prefix
from database_lab.ledger import LARGE, LARGE_OBJECTS, Ledger, differences, large_objects, read
from database_lab.load import initial, insert
from database_lab.schema import AFTER, BEFORE, EXTRA_PARTITIONS, SETTINGS, TABLES, TRIGRAMS

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from database_lab.damages import Damage
    from database_lab.ledger import Found

ROLES = ("lab_owner NOLOGIN", "lab_billing NOLOGIN", "lab_app LOGIN")
TOML = """
[app]
name = "shop"
[environments.lab]
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }}
[environments.lab.database]
provider = "postgres"
url_env = "DATABASE_URL"
[environments.lab.database.backup]
wal = "stream"
[environments.lab.database.server]
data_directory = "{data}"
start = '''{start}'''
stop = '''{stop}'''
"""
_JOBS = ("look", "prove", "backup", "rescue", "swap")
_EVERY = 6
"""So many databases are made between two base backups."""


@dataclass
class World:
    """The server and its projects.

    Args:
        beside: what other databases hold that nothing may change, by name.
        truth: what each new database begins with.
    """

    lab: Lab
    folder: Path
    truth: Ledger = field(default_factory=Ledger)
    beside: dict[str, Found] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _since_base: int = 0

    def create(self) -> None:
        """Make the roles, the database that others are copied from, its rows, the first base backup; receive WAL."""
        self.folder.mkdir()
        start, stop = (shlex.join(argv) for argv in self.lab.commands)
        text = TOML.format(data=self.lab.data, start=start, stop=stop)
        (self.folder / "backout.toml").write_text(text, encoding="utf-8")
        with self.lab.connect() as connection:
            connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
            connection.execute("SELECT pg_reload_conf()")
            for role in ROLES:
                connection.execute(f"CREATE ROLE {role}")  # type: ignore[call-overload]
            connection.execute("CREATE DATABASE shaped OWNER lab_owner")
        self._fill("shaped")
        for job in _JOBS:
            self.role(job, "shaped")
        started = self.backout("db", "wal", "start", role="backup")
        assert started.code == 0, started.err
        self.base()

    def _fill(self, name: str) -> None:
        dice = random.Random(14)  # noqa: S311 seeded
        with psycopg.connect(self.dsn(name), autocommit=True) as connection:
            made = {str(each) for (each,) in connection.execute("SELECT name FROM pg_available_extensions")}
            for extension in {"citext", "pg_trgm"} & made:
                connection.execute(f"CREATE EXTENSION {extension}")  # type: ignore[call-overload]
            connection.execute("GRANT lab_billing TO lab_owner")
            connection.execute("GRANT CREATE ON DATABASE shaped TO lab_owner")
            connection.execute("SET ROLE lab_owner")
            connection.execute(BEFORE)  # type: ignore[call-overload]
            for table in TABLES:
                ddl = table.ddl if "citext" in made else table.ddl.replace("citext", "text")
                connection.execute(ddl)  # type: ignore[call-overload]
                if table.name == "shop.days":
                    connection.execute(EXTRA_PARTITIONS)  # type: ignore[call-overload]
            connection.execute("SET row_security = off")
            connection.execute(AFTER)  # type: ignore[call-overload]
            if "pg_trgm" in made:
                connection.execute(TRIGRAMS)
            connection.execute("RESET ROLE")
            counts: dict[tuple[str, ...], int] = {}
            for table, key, row in initial(dice):
                assert insert(connection, table, key, row) == 1
                if not table.key:
                    values = tuple(str(value) for value in row.values())
                    counts[values] = counts.get(values, -1) + 1
                    self.truth.put(table.name, (*values, str(counts[values])), row)
                    continue
                self.truth.put(table.name, key, row)
            connection.execute("UPDATE shop.circle_a SET b = id; UPDATE shop.circle_b SET a = id")
            connection.execute("REFRESH MATERIALIZED VIEW shop.sums; ALTER TABLE billing.invoices OWNER TO lab_billing")
            self._link()
            for number in LARGE_OBJECTS:
                connection.execute(f"SELECT lo_from_bytea({number}, decode(repeat('ab', 5000), 'hex'))")
                connection.execute(f"ALTER LARGE OBJECT {number} OWNER TO lab_owner")  # type: ignore[call-overload]
            self.truth.rows[LARGE] = large_objects(connection)
            for schema in ("shop", "billing", '"Größe X"'):
                connection.execute(
                    f"GRANT USAGE ON SCHEMA {schema} TO lab_app; "  # type: ignore[call-overload]
                    f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO lab_app"
                )

    def _link(self) -> None:
        """Note which row of a circle refers to which."""
        for table in (each for each in TABLES if each.linked):
            for (key,), row in self.truth.rows[table.name].items():
                row[table.linked] = key

    def role(self, job: str, database: str) -> None:
        """Make the role of a job by the script that `backout db roles` prints, or let it into one more database."""
        more = ("--owner", "lab_owner") if job == "rescue" else ()
        script = typed(self.folder, "db", "roles", job, "--role", f"lab_{job}", "--database", database, *more).out
        assert script
        with self.lab.connect() as connection:
            there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (f"lab_{job}",)).fetchone()
        if there:
            script = "\n".join(line for line in script.splitlines() if not line.startswith("CREATE ROLE"))
        run = [self.lab.binaries.path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=0", "-d", self.dsn(database)]
        subprocess.run(run, input=script.encode(), check=False, capture_output=True, timeout=PATIENCE_S)
        more_rights = {"rescue": "GRANT lab_billing TO lab_rescue", "prove": "ALTER ROLE lab_prove BYPASSRLS"}
        if job in more_rights:  # a second owner; a table that row security holds back from its owner
            with self.lab.connect() as connection:
                connection.execute(more_rights[job])  # type: ignore[call-overload]

    def dsn(self, database: str, user: str = "postgres") -> str:
        """Return a connection string of a database."""
        return f"host={self.lab.sockets} port={self.lab.port} user={user} dbname={database}"

    def backout(self, *words: str, role: str, database: str = "postgres", url: str = "") -> Answer:
        """Type a command, as the role of a job, or with another connection string."""
        url = url or self.dsn(database, f"lab_{role}")
        return typed(self.folder, *words, variables={"DATABASE_URL": url})

    def agreeing(self, *words: str, database: str) -> tuple[str, ...]:
        """Return the words that agree to what else goes back with a swap or its undo, however much is written still."""
        told = self.backout("db", "restore", *words, "--dry-run", "--json", role="swap", database=database)
        if told.code:
            return ()
        found = [str(thing["word"]) for thing in json.loads(told.out)["also_back"]]
        loose = [f"{word.rpartition('=')[0]}=all" if "=" in word else word for word in found]
        return tuple(each for word in loose for each in ("--also-back", word))

    def lose_unlogged(self) -> None:
        """Note that unlogged rows are gone, from the database that others are copied from as well."""
        self.truth.rows["shop.cache"].clear()

    def crash(self) -> None:
        """Kill the server and start it again."""
        self.lose_unlogged()
        options = ("-D", str(self.lab.data), "-m", "immediate", "-w", "stop")
        subprocess.run(
            (*find_unprivileged_prefix(), self.lab.binaries.path("pg_ctl"), *options), check=True, timeout=PATIENCE_S
        )
        self.lab.server.start()

    def base(self) -> None:
        """Take a full backup."""
        made = self.backout("db", "backup", "--full", role="backup")
        assert made.code == 0, made.err + made.out
        self._since_base = 0

    @contextlib.contextmanager
    def database(self) -> Iterator[tuple[str, Ledger]]:
        """Yield a new database of the lab's shape, and the ledger of it."""
        if self._since_base >= _EVERY:
            self.base()
        self._since_base += 1
        for path in (self.folder / ".backout").glob("journal*"):
            path.unlink()  # what stopped in the middle is looked at, and stands in nobody's way
        name = f"c{next(self._numbers)}"
        with self.lab.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE shaped OWNER lab_owner")  # type: ignore[call-overload]
            for setting in SETTINGS:
                connection.execute(setting.format(name=name))  # type: ignore[call-overload]
            connection.execute(
                f"GRANT CONNECT, TEMPORARY ON DATABASE {name} TO lab_look, lab_prove, lab_rescue, lab_swap"  # type: ignore[call-overload]
            )
        try:
            yield name, self.truth.copied()
        finally:
            with contextlib.suppress(psycopg.Error), self.lab.connect() as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {name} (FORCE)")  # type: ignore[call-overload]

    def damage(self, database: str, damage: Damage) -> str:
        """Do it as the owner; return the transaction's id."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            connection.execute("SET ROLE lab_owner")
            connection.execute("BEGIN")
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            for statement in damage.statements:
                connection.execute(statement)  # type: ignore[call-overload]
            if damage.prepared:
                connection.execute("PREPARE TRANSACTION 'lab'")
            connection.execute("COMMIT PREPARED 'lab'" if damage.prepared else "COMMIT")
        assert row is not None
        return str(row[0])

    def archived(self, within_s: float = PATIENCE_S) -> None:
        """Return when what was committed until now can be restored. Raises AssertionError: not within that time."""
        with self.lab.connect() as connection:
            lsn = position_behind(connection)
        ends = time.monotonic() + within_s
        while True:
            looked = self.backout("db", "restore", lsn, "--side", "--dry-run", role="swap")
            if looked.code == 0:
                return
            assert time.monotonic() < ends, f"the WAL is not in the archive: {looked.err}"
            time.sleep(0.3)

    def heal(self) -> None:
        """Receive WAL again, from a base on, after a fault that kept it out of the archive."""
        self.backout("db", "wal", "stop", "--yes", role="backup")
        started = self.backout("db", "wal", "start", role="backup")
        assert started.code == 0, started.err
        self.base()
        self.archived()

    def beside_wrong(self) -> dict[str, list[str]]:
        """Return what was changed in the other databases, and drop them."""
        wrong: dict[str, list[str]] = {}
        for name in list(self.beside):
            for table, said in differences(self.beside.pop(name), read(self.dsn(name))).items():
                wrong[f"{name}: {table}"] = said
            with self.lab.connect() as connection:
                connection.execute(f"DROP DATABASE {name} (FORCE)")  # type: ignore[call-overload]
        return wrong

    def drop_sides(self, database: str) -> None:
        """Remove every side instance."""
        listed = self.backout("db", "restore", "--list", "--json", role="swap", database=database)
        for side in json.loads(listed.out)["sides"]:
            self.backout("db", "restore", "--drop-side", side["name"], role="swap", database=database)


@contextlib.contextmanager
def opened_world(root: Path, cache: Path) -> Iterator[World]:
    """Open one; everything it started ends with it."""
    with opened(root / "server", cache, receive=False, templates=True) as lab:
        world = World(lab, root / "project")
        try:
            world.create()
            yield world
        finally:
            world.backout("db", "wal", "stop", "--yes", role="backup")
            shutil.rmtree(root / "project", ignore_errors=True)
