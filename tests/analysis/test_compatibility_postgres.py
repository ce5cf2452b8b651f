"""The table of `docs/migrations.md` on a real Postgres: each change is made, and the old statements are sent.

What really fails or answers differently is compared with the verdict: nothing that is noticed is called safe, and
nothing is called breaking that nobody notices. Expectations are written by judging, not by running the classifier.
"""

# ruff: noqa: E501 - a table of SQL reads best with a change on a line

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template

from backout.analysis.compatibility import judge
from backout.model.database.compatibility import Compatibility, MigrationFile

from compatibility_lab import BASE, Lab, running_lab
from extent import DAY, by_extent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.database.compatibility import StatementVerdict

SAFE, SAFE_IF, BREAKING = Compatibility.SAFE, Compatibility.SAFE_IF, Compatibility.BREAKING


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab"), template()) as found:
        yield found


@dataclass(frozen=True, slots=True)
class Row:
    """One change: what it is, its SQL, the verdict, whether it can be taken back, and data that it needs."""

    name: str
    sql: str
    verdict: Compatibility
    reversible: str
    data: str = ""


NO_LEGACY = "DELETE FROM legacy"
FACTS = (  # the facts' table, row by row
    Row("add a column", "ALTER TABLE users ADD COLUMN x int", SAFE, "if"),
    Row("add a filled column", "ALTER TABLE users ADD COLUMN x int NOT NULL DEFAULT 3", SAFE, "if"),
    Row("add a required column", "ALTER TABLE legacy ADD COLUMN x int NOT NULL", BREAKING, "yes", NO_LEGACY),
    Row("drop a column", "ALTER TABLE users DROP COLUMN name", BREAKING, "no"),
    Row("rename a column", "ALTER TABLE users RENAME COLUMN name TO full_name", BREAKING, "yes"),
    Row("rename a table", "ALTER TABLE users RENAME TO people", BREAKING, "yes"),
    Row("drop a table", "DROP TABLE legacy", BREAKING, "no"),
    Row("drop a view", "DROP VIEW grown", BREAKING, "yes"),
    Row("drop a function", "DROP FUNCTION twice(int)", BREAKING, "yes"),
    Row("truncate", "TRUNCATE legacy", SAFE_IF, "no"),
    Row("delete rows", "DELETE FROM legacy WHERE id = 1", SAFE_IF, "no"),
    Row("update rows", "UPDATE users SET score = 0", SAFE_IF, "no"),
    Row("int to bigint", "ALTER TABLE users ALTER COLUMN age TYPE bigint", SAFE, "if"),
    Row("varchar to text", "ALTER TABLE users ALTER COLUMN short TYPE text", SAFE, "if"),
    Row("numeric to int", "ALTER TABLE users ALTER COLUMN score TYPE int", BREAKING, "no"),
    Row("varchar shorter", "ALTER TABLE users ALTER COLUMN short TYPE varchar(5)", BREAKING, "if"),
    Row("set not null", "UPDATE users SET name = ''; ALTER TABLE users ALTER COLUMN name SET NOT NULL", SAFE_IF, "no"),
    Row("drop not null", "ALTER TABLE users ALTER COLUMN email DROP NOT NULL", SAFE_IF, "if"),
    Row("set a default", "ALTER TABLE users ALTER COLUMN note SET DEFAULT 'other'", SAFE_IF, "yes"),
    Row("drop a default", "ALTER TABLE users ALTER COLUMN note DROP DEFAULT", SAFE_IF, "yes"),
    Row("add a check", "ALTER TABLE users ADD CONSTRAINT c CHECK (age < 1000)", SAFE_IF, "yes"),
    Row("add a check, not valid", "ALTER TABLE users ADD CONSTRAINT c CHECK (age < 1000) NOT VALID", SAFE_IF, "yes"),
    Row("add unique", "ALTER TABLE users ADD CONSTRAINT u UNIQUE (name)", SAFE_IF, "yes"),
    Row("unique index", "CREATE UNIQUE INDEX CONCURRENTLY u ON users (name)", SAFE_IF, "yes"),
    Row("drop unique", "ALTER TABLE users DROP CONSTRAINT users_email_key", BREAKING, "if"),
    Row("drop a unique index", "DROP INDEX users_code_idx", BREAKING, "if"),
    Row(
        "add a foreign key", "ALTER TABLE legacy ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES teams (id) NOT VALID",
        SAFE_IF, "yes", "DELETE FROM teams WHERE id = 9",
    ),
    Row("drop a foreign key", "ALTER TABLE users DROP CONSTRAINT users_team_id_fkey", SAFE, "yes"),
    Row("create an index", "CREATE INDEX CONCURRENTLY i ON users (age)", SAFE, "yes"),
    Row("create a table", "CREATE TABLE more (id int PRIMARY KEY, user_id int REFERENCES users (id))", SAFE, "yes"),
    Row(
        "replace a view with one more column",
        "CREATE OR REPLACE VIEW grown AS SELECT id, email, age FROM users WHERE adult", SAFE, "yes",
    ),
    Row("drop an index", "DROP INDEX users_name_idx", SAFE, "yes"),
    Row("enum: add a value", "ALTER TYPE role ADD VALUE 'owner'", SAFE_IF, "no"),
    Row("enum: rename a value", "ALTER TYPE role RENAME VALUE 'admin' TO 'root'", BREAKING, "yes"),
    Row("row security", "ALTER TABLE users ENABLE ROW LEVEL SECURITY", SAFE_IF, "yes"),
    Row("revoke", "REVOKE INSERT ON users FROM old_code", SAFE_IF, "yes"),
    Row("set schema", "ALTER TABLE legacy SET SCHEMA audit", BREAKING, "yes"),
)  # fmt: skip
MORE = (
    Row("add a generated column", "ALTER TABLE users ADD COLUMN x int GENERATED ALWAYS AS (age + 1) STORED", SAFE, "if"),
    Row("add an identity column", "ALTER TABLE users ADD COLUMN x int GENERATED ALWAYS AS IDENTITY", SAFE, "if"),
    Row("add a serial column", "ALTER TABLE users ADD COLUMN x bigserial", SAFE, "if"),
    Row("add a column with a check", "ALTER TABLE users ADD COLUMN x int CHECK (x > 0)", SAFE, "if"),
    Row("add a column with a key", "ALTER TABLE users ADD COLUMN x int REFERENCES teams (id)", SAFE, "if"),
    Row("add a unique column", "ALTER TABLE users ADD COLUMN x text UNIQUE", SAFE, "if"),
    Row("add a unique column with a constant", "ALTER TABLE legacy ADD COLUMN x text UNIQUE DEFAULT 'a'", BREAKING, "if"),
    Row(
        "add a column that must be given", "ALTER TABLE legacy ADD COLUMN x text, ADD CHECK (x IS NOT NULL)",
        BREAKING, "if", NO_LEGACY,
    ),
    Row(
        "add, fill, require", "ALTER TABLE users ADD COLUMN x int; UPDATE users SET x = 1; "
        "ALTER TABLE users ALTER COLUMN x SET NOT NULL", BREAKING, "if",
    ),
    Row(
        "add filled, then drop the default", "ALTER TABLE users ADD COLUMN x int NOT NULL DEFAULT 0; "
        "ALTER TABLE users ALTER COLUMN x DROP DEFAULT", BREAKING, "if",
    ),
    Row("timestamp more exact", "ALTER TABLE users ALTER COLUMN day TYPE timestamp", SAFE, "if"),
    Row("timestamp less exact", "ALTER TABLE users ALTER COLUMN at TYPE timestamptz(0)", BREAKING, "no"),
    Row("timestamp without zone", "ALTER TABLE users ALTER COLUMN at TYPE timestamp", BREAKING, "no"),
    Row("json to jsonb", "ALTER TABLE users ALTER COLUMN data TYPE jsonb", BREAKING, "no"),
    Row("real to double", "ALTER TABLE users ALTER COLUMN ratio TYPE double precision", BREAKING, "no"),
    Row("int to text", "ALTER TABLE users DROP CONSTRAINT users_age_check; "
        "ALTER TABLE users ALTER COLUMN age TYPE text", BREAKING, "if"),
    Row("int to numeric(5,2)", "ALTER TABLE users ALTER COLUMN age TYPE numeric(5, 2)", BREAKING, "if"),
    Row("int to double", "ALTER TABLE users ALTER COLUMN age TYPE double precision", SAFE_IF, "if"),
    Row("int to numeric", "ALTER TABLE users ALTER COLUMN age TYPE numeric", SAFE_IF, "if"),
    Row("bigint to int", "ALTER TABLE users ALTER COLUMN big TYPE int", BREAKING, "if"),
    Row("numeric wider", "ALTER TABLE users ALTER COLUMN score TYPE numeric(12, 2)", SAFE, "if"),
    Row("numeric unlimited", "ALTER TABLE users ALTER COLUMN score TYPE numeric", SAFE, "if"),
    Row("numeric with more places", "ALTER TABLE users ALTER COLUMN score TYPE numeric(14, 4)", SAFE_IF, "if"),
    Row("char to text", "ALTER TABLE users ALTER COLUMN code TYPE text", SAFE_IF, "if"),
    Row("array wider", "ALTER TABLE users ALTER COLUMN tags TYPE text[]", SAFE, "if"),
    Row("array narrower", "ALTER TABLE users ALTER COLUMN tags TYPE varchar(1)[]", BREAKING, "if"),
    Row("computed anew", "ALTER TABLE users ALTER COLUMN short TYPE text USING upper(short)", BREAKING, "no"),
    Row("cast through another type", "ALTER TABLE users ALTER COLUMN short TYPE text USING short::varchar(2)::text", BREAKING, "no"),
    Row("cast to itself", "ALTER TABLE users ALTER COLUMN short TYPE text USING short::text", SAFE, "if"),
    Row("the same type", "ALTER TABLE users ALTER COLUMN short TYPE varchar(20)", SAFE, "yes"),
    Row(
        "enum with fewer labels", "CREATE TYPE role_new AS ENUM ('user'); ALTER TABLE users ALTER COLUMN role DROP DEFAULT; "
        "ALTER TABLE users ALTER COLUMN role TYPE role_new USING role::text::role_new; ALTER TYPE role RENAME TO role_old; "
        "ALTER TYPE role_new RENAME TO role; ALTER TABLE users ALTER COLUMN role SET DEFAULT 'user'; DROP TYPE role_old",
        BREAKING, "if",
    ),
    Row(
        "enum with more labels", "CREATE TYPE role_new AS ENUM ('user', 'admin', 'x'); "
        "ALTER TABLE users ALTER COLUMN role DROP DEFAULT; "
        "ALTER TABLE users ALTER COLUMN role TYPE role_new USING role::text::role_new; ALTER TYPE role RENAME TO role_old; "
        "ALTER TYPE role_new RENAME TO role; ALTER TABLE users ALTER COLUMN role SET DEFAULT 'user'; DROP TYPE role_old",
        SAFE_IF, "if",
    ),
    Row("enum to text", "ALTER TABLE users ALTER COLUMN role DROP DEFAULT, ALTER COLUMN role TYPE text, "
        "ALTER COLUMN role SET DEFAULT 'user'", BREAKING, "if"),
    Row("domain to its type", "ALTER TABLE users ALTER COLUMN paid TYPE int", SAFE, "yes"),
    Row("composite: one more part", "ALTER TYPE spot ADD ATTRIBUTE z int", BREAKING, "yes"),
    Row("composite: rename a part", "ALTER TYPE spot RENAME ATTRIBUTE x TO east", BREAKING, "yes"),
    Row("domain: a check", "ALTER DOMAIN amount ADD CONSTRAINT c CHECK (VALUE < 100)", SAFE_IF, "yes"),
    Row("domain: rename", "ALTER DOMAIN amount RENAME TO money_amount", BREAKING, "yes"),
    Row("drop a domain", "ALTER TABLE users ALTER COLUMN paid TYPE int; DROP DOMAIN amount", BREAKING, "yes"),
    Row("identity always", "ALTER TABLE logs ALTER COLUMN n SET GENERATED ALWAYS", BREAKING, "yes"),
    Row("drop identity", "ALTER TABLE logs ALTER COLUMN n DROP IDENTITY", BREAKING, "yes"),
    Row("drop the expression", "ALTER TABLE logs ALTER COLUMN size DROP EXPRESSION", SAFE_IF, "yes"),
    Row("set the expression", "ALTER TABLE logs ALTER COLUMN size SET EXPRESSION AS (1)", SAFE_IF, "yes"),
    Row("drop the primary key", "ALTER TABLE users DROP CONSTRAINT users_pkey", BREAKING, "if"),
    Row("rename a unique constraint", "ALTER TABLE users RENAME CONSTRAINT users_email_key TO u", BREAKING, "yes"),
    Row("rename a foreign key", "ALTER TABLE users RENAME CONSTRAINT users_team_id_fkey TO f", SAFE, "yes"),
    Row("rename an index", "ALTER INDEX users_name_idx RENAME TO i", SAFE, "yes"),
    Row("rename the index of a constraint", "ALTER INDEX users_email_key RENAME TO u", BREAKING, "yes"),
    Row("replace a unique index", "CREATE UNIQUE INDEX u ON users (code); DROP INDEX users_code_idx", SAFE, "yes"),
    Row("drop a check", "ALTER TABLE users DROP CONSTRAINT users_age_check", SAFE_IF, "if"),
    Row("an index that can fail", "CREATE INDEX i ON legacy ((1 / (id - 2)))", SAFE_IF, "yes"),
    Row("an index with a function", "CREATE INDEX i ON users (lower(name)) WHERE age > 3", SAFE, "yes"),
    Row("drop a materialized view", "DROP MATERIALIZED VIEW totals", BREAKING, "yes"),
    Row("empty a materialized view", "REFRESH MATERIALIZED VIEW totals WITH NO DATA", BREAKING, "yes"),
    Row("view: other rows", "CREATE OR REPLACE VIEW grown AS SELECT id, email FROM users", SAFE_IF, "yes"),
    Row("view made anew", "DROP VIEW grown; CREATE VIEW grown AS SELECT id, email FROM users", SAFE_IF, "yes"),
    Row("view made anew with less", "DROP VIEW grown; CREATE VIEW grown AS SELECT id FROM users", BREAKING, "yes"),
    Row("rename a view", "ALTER VIEW grown RENAME TO adults", BREAKING, "yes"),
    Row("table behind a view", "ALTER TABLE legacy RENAME TO old_legacy; CREATE VIEW legacy AS SELECT * FROM old_legacy",
        SAFE_IF, "yes"),
    Row("function: another body", "CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 3'",
        SAFE_IF, "yes"),
    Row("function: another result", "DROP FUNCTION twice; CREATE FUNCTION twice(n int) RETURNS text LANGUAGE sql "
        "AS 'SELECT n::text'", BREAKING, "yes"),
    Row(
        "function: one that competes",
        "CREATE FUNCTION twice(n bigint, m int DEFAULT 1) RETURNS bigint LANGUAGE sql AS 'SELECT n'", SAFE_IF, "yes",
    ),
    Row("an upsert", "INSERT INTO teams (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'x'", SAFE_IF, "no"),
    Row("function: rename", "ALTER FUNCTION twice(int) RENAME TO double", BREAKING, "yes"),
    Row("drop a procedure", "DROP PROCEDURE touch()", BREAKING, "yes"),
    Row("a trigger", "CREATE TRIGGER t BEFORE INSERT ON legacy FOR EACH ROW EXECUTE FUNCTION stamp()", SAFE_IF, "yes"),
    Row("drop a trigger", "DROP TRIGGER logs_stamp ON logs", SAFE_IF, "yes"),
    Row("disable a trigger", "ALTER TABLE logs DISABLE TRIGGER logs_stamp", SAFE_IF, "yes"),
    Row("a rule", "CREATE RULE r AS ON DELETE TO legacy DO INSTEAD NOTHING", BREAKING, "yes"),
    Row("detach a partition", "ALTER TABLE events DETACH PARTITION events_2025", BREAKING, "yes"),
    Row("drop a partition", "DROP TABLE events_2025", BREAKING, "no"),
    Row("a new partition", "CREATE TABLE events_2027 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        SAFE, "yes"),
    Row("attach a partition", "CREATE TABLE e27 (at date NOT NULL, what text); "
        "ALTER TABLE events ATTACH PARTITION e27 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')", SAFE, "yes"),
    Row("drop a schema", "DROP SCHEMA audit CASCADE", BREAKING, "no"),
    Row("rename a schema", "ALTER SCHEMA audit RENAME TO trail", BREAKING, "yes"),
    Row("drop a sequence", "DROP SEQUENCE tickets", BREAKING, "if"),
    Row("rename a sequence", "ALTER SEQUENCE tickets RENAME TO t", BREAKING, "yes"),
    Row("restart a sequence", "ALTER SEQUENCE users_id_seq RESTART WITH 1", SAFE_IF, "if"),
    Row("a policy", "CREATE POLICY p ON users USING (false); ALTER TABLE users ENABLE ROW LEVEL SECURITY", SAFE_IF, "yes"),
    Row("grant", "GRANT SELECT ON users TO PUBLIC", SAFE, "yes"),
    Row("revoke a schema", "REVOKE USAGE ON SCHEMA audit FROM old_code", SAFE_IF, "yes"),
    Row("seed rows", "INSERT INTO teams (name) VALUES ('three')", SAFE_IF, "if"),
    Row("a change inside a CTE", "WITH gone AS (DELETE FROM legacy RETURNING *) SELECT count(*) FROM gone", SAFE_IF, "no"),
    Row("a block", "DO $$ BEGIN ALTER TABLE users DROP COLUMN name; END $$", BREAKING, "no"),
    Row("a block that adds", "DO $$ BEGIN ALTER TABLE users ADD COLUMN x int; EXCEPTION WHEN duplicate_column THEN NULL; "
        "END $$", SAFE, "if"),
    Row("a block with dynamic SQL", "DO $$ BEGIN EXECUTE 'ALTER TABLE ' || 'legacy RENAME TO l'; END $$", SAFE_IF, "no"),
    Row("a block with constant dynamic SQL", "DO $$ BEGIN EXECUTE 'ALTER TABLE legacy RENAME TO l'; END $$", BREAKING, "yes"),
    Row("several commands", "ALTER TABLE users ADD COLUMN x int, DROP COLUMN note, ALTER COLUMN age TYPE bigint", BREAKING,
        "no"),
    Row("a publication of a table without a key", "CREATE PUBLICATION p FOR TABLE legacy", BREAKING, "yes"),
    Row("a publication of a table with a key", "CREATE PUBLICATION p FOR TABLE users", SAFE, "yes"),
    Row("a comment", "COMMENT ON TABLE users IS 'people'", SAFE, "yes"),
    Row("never there", "DROP TABLE IF EXISTS nothing; DROP VIEW IF EXISTS nothing_either; "
        "ALTER TABLE users DROP COLUMN IF EXISTS nothing", SAFE, "yes"),
    Row("there already", "CREATE TABLE IF NOT EXISTS users (id int); ALTER TABLE users ADD COLUMN IF NOT EXISTS name text",
        SAFE, "yes"),
    Row("an exclusion", "ALTER TABLE legacy ADD EXCLUDE USING btree (what WITH =)", SAFE_IF, "yes"),
    Row("not enforced", "ALTER TABLE users ADD CONSTRAINT c CHECK (age < 5) NOT ENFORCED", SAFE, "yes"),
    Row("two columns unique, one new", "ALTER TABLE users ADD COLUMN x int; CREATE UNIQUE INDEX u ON users (name, x)", SAFE,
        "if"),
    Row("unique with what is unique", "CREATE UNIQUE INDEX u ON users (email, name)", SAFE, "yes"),
)  # fmt: skip
ROWS = [*FACTS, *MORE][DAY % by_extent(2, 1) :: by_extent(2, 1)]
"""In `make test` every second one, the others the next day."""


def verdict_on(sql: str) -> tuple[Compatibility, str, tuple[StatementVerdict, ...]]:
    """Return what the classifier says about a change to the base."""
    found = judge([MigrationFile("base", BASE), MigrationFile("change", sql)])[1]
    return found.verdict, str(found.reversible), found.statements


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_verdict_is_what_old_code_meets(lab: Lab, row: Row) -> None:
    """Nothing that old statements notice is safe; nothing that none of them notices is breaking."""
    effect = lab.effect(row.sql, row.data)
    verdict, reversible, statements = verdict_on(row.sql)
    assert (verdict, reversible) == (row.verdict, row.reversible), statements
    if verdict is SAFE:
        assert not effect.noticed
    if verdict is BREAKING:
        assert effect.noticed
    assert all(s.reason for s in statements)


CONDITIONS = (  # the change, data that is no obstacle, data that is one, and what has to happen before the query
    ("ALTER TABLE users ALTER COLUMN name SET NOT NULL", "UPDATE users SET name = 'x'", "UPDATE users SET name = NULL"),
    ("ALTER TABLE users ALTER COLUMN email DROP NOT NULL", "", ("ALTER TABLE users ALTER email DROP NOT NULL; "
     "UPDATE users SET email = NULL WHERE id = 1")),
    ("ALTER TABLE users ADD CONSTRAINT c CHECK (age < 20)", "UPDATE users SET age = NULL", "UPDATE users SET age = 20"),
    ("ALTER TABLE users ADD CONSTRAINT u UNIQUE (team_id, score)", "UPDATE users SET team_id = id",
     "UPDATE users SET team_id = 1"),
    ("CREATE UNIQUE INDEX u ON users (lower(name)) WHERE adult", "UPDATE users SET name = 'A' || id",
     "UPDATE users SET name = CASE id WHEN 1 THEN 'a' ELSE 'A' END"),
    ("CREATE UNIQUE INDEX u ON users (name) NULLS NOT DISTINCT", "UPDATE users SET name = id::text",
     "UPDATE users SET name = NULL"),
    ("CREATE UNIQUE INDEX u ON users (name)", "UPDATE users SET name = NULL", "UPDATE users SET name = ''"),
    ("ALTER TABLE legacy ADD PRIMARY KEY (id)", "", "INSERT INTO legacy VALUES (1, 'twice')"),
    ("ALTER TABLE legacy ADD PRIMARY KEY (id)", "INSERT INTO legacy VALUES (2, 'x')", "INSERT INTO legacy VALUES (NULL, 'x')"),
    ("ALTER TABLE legacy ADD FOREIGN KEY (id) REFERENCES teams", "", "UPDATE legacy SET id = 99"),
    ("ALTER TABLE legacy ADD EXCLUDE USING btree (what WITH =)", "", "INSERT INTO legacy VALUES (8, 'old')"),
    ("ALTER TABLE users ALTER COLUMN short TYPE varchar(5)", "", "UPDATE users SET short = 'longer'"),
    ("ALTER TABLE users ALTER COLUMN big TYPE int", "", "UPDATE users SET big = 3000000000"),
    ("ALTER TABLE users DROP CONSTRAINT users_age_check", "", ("ALTER TABLE users DROP CONSTRAINT users_age_check; "
     "UPDATE users SET age = -1")),
    ("ALTER TYPE role ADD VALUE 'owner'", "", "ALTER TYPE role RENAME VALUE 'user' TO 'owner'"),
    ("ALTER DOMAIN amount ADD CONSTRAINT c CHECK (VALUE < 100)", "", "UPDATE users SET paid = 100"),
    ("ALTER DOMAIN amount SET NOT NULL", "", "UPDATE users SET paid = NULL"),
    ("DELETE FROM legacy WHERE what = 'gone'", "", "UPDATE legacy SET what = 'gone'"),
    ("UPDATE legacy AS l SET id = 3 WHERE l.id > 5", "", "UPDATE legacy SET id = 6"),
    ("TRUNCATE legacy, audit.entries", "DELETE FROM legacy; DELETE FROM audit.entries", "DELETE FROM legacy"),
    ("ALTER TABLE logs ADD COLUMN x int; UPDATE logs SET x = 1", "DROP TRIGGER logs_stamp ON logs", "SELECT 1"),
    ("ALTER TABLE users ADD CHECK (age > 3), ALTER COLUMN name SET NOT NULL", "UPDATE users SET name = 'x'",
     "UPDATE users SET age = 1, name = 'x'"),
    ("ALTER TABLE strange ALTER c TYPE text USING c::text", "CREATE TABLE strange (c varchar(9))", "CREATE TABLE strange (c int)"),
    ("DROP INDEX somebodys", "CREATE INDEX somebodys ON legacy (id)", "CREATE UNIQUE INDEX somebodys ON legacy (id)"),
    ("ALTER TABLE legacy DROP CONSTRAINT somebodys", "ALTER TABLE legacy ADD CONSTRAINT somebodys CHECK (id > 0)",
     "ALTER TABLE legacy ADD CONSTRAINT somebodys UNIQUE (id)"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "good", "bad"), CONDITIONS, ids=[f"{n}: {c[0][:50]}" for n, c in enumerate(CONDITIONS)]
)
def test_a_condition_finds_the_rows_that_speak_against_it(lab: Lab, sql: str, good: str, bad: str) -> None:
    """No row where the data is no obstacle, one where it is."""
    condition = verdict_on(sql)[2][-1].condition_sql
    assert condition is not None
    assert not lab.rows(good, condition)
    assert lab.rows(bad, condition)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_condition_is_a_query_that_runs_before_the_change(lab: Lab, row: Row) -> None:
    """Names are quoted where they must be, and nothing is asked of what the migration only makes."""
    for statement in verdict_on(row.sql)[2]:
        if statement.condition_sql is not None and statement.kind != "backfill":
            lab.rows(row.data, statement.condition_sql)


def test_a_prepared_select_star_fails_once_after_a_new_column(lab: Lab) -> None:
    """The pitfall that the reason names is real: the verdict stays safe, since preparing again helps."""
    connection = lab.connection
    with connection.transaction(force_rollback=True):
        connection.execute("PREPARE star AS SELECT * FROM legacy")
        connection.execute("EXECUTE star")
        connection.execute("ALTER TABLE legacy ADD COLUMN x int")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan must not change result type"):
            connection.execute("EXECUTE star")
    connection.execute("DEALLOCATE ALL")
    (statement,) = verdict_on("ALTER TABLE legacy ADD COLUMN x int")[2]
    assert "cached plan must not change result type" in statement.reason
    assert statement.verdict is SAFE
