"""Migrations put together by chance, made on a real Postgres: nothing that old statements notice is ever called safe."""

# ruff: noqa: E501 - a list of SQL reads best with a change whole

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template

from backout.analysis.compatibility import judge
from backout.model.database.compatibility import Compatibility, MigrationFile

from compatibility_lab import BASE, Lab, running_lab
from extent import by_extent

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS = by_extent(100, 300, proof=20_000)
COLUMNS = [
    "id",
    "email",
    "name",
    "age",
    "score",
    "role",
    "team_id",
    "note",
    "code",
    "at",
    "day",
    "data",
    "tags",
    "ratio",
    "paid",
    "place",
    "short",
    "big",
    "adult",
]
TYPES = (
    "int", "bigint", "smallint", "numeric", "numeric(6,1)", "numeric(12,2)", "numeric(14,2)", "text", "varchar",
    "varchar(3)", "varchar(80)", "char(5)", "char(8)", "timestamp", "timestamptz", "timestamp(0)",
    "timestamp(6)", "timestamptz(3)", "date", "json", "jsonb", "text[]", "varchar(40)[]", "real",
    "double precision", "boolean", "uuid", "amount", "role", "spot",
)  # fmt: skip
DEFAULTS = ("1", "0", "NULL", "5", "(random() * 1e9)::int", "nextval('tickets')::int", "'1'")
CHECKS = (
    "{c} IS NOT NULL", "{c} IS NULL", "{n} > 0", "{n} IS NOT NULL OR {c} IS NULL", "{n} = 1",
    "coalesce({n}, 1) > 1", "NOT ({n} > 1)", "{n} IN (1,2)", "{n} BETWEEN 0 AND 5", "length({c}::text) < 3",
    "{n} <> 1 AND {c} IS NOT NULL", "{n} IS DISTINCT FROM 1", "NULL", "false", "true",
)  # fmt: skip
CHANGES = (  # c: an old column, n and n2: new ones, t: a type, d: a default, e: a condition
    "ALTER TABLE users ADD COLUMN {n} int", "ALTER TABLE users ADD COLUMN {n} int DEFAULT {d}",
    "ALTER TABLE users ADD COLUMN {n} int NOT NULL DEFAULT {d}", "ALTER TABLE users ADD COLUMN IF NOT EXISTS {c} int",
    "ALTER TABLE users ADD COLUMN {n} int UNIQUE DEFAULT {d}", "ALTER TABLE users ADD COLUMN {n} int CHECK ({e})",
    "ALTER TABLE users ADD COLUMN {n} int DEFAULT {d} CHECK ({e})",
    "ALTER TABLE users ADD COLUMN {n} int DEFAULT {d} REFERENCES teams(id)",
    "ALTER TABLE users ADD COLUMN {n} int GENERATED ALWAYS AS (age + 1) STORED",
    "ALTER TABLE users ADD COLUMN {n} int GENERATED ALWAYS AS (100 / (age - 3000000)) VIRTUAL",
    "ALTER TABLE users ADD COLUMN {n} int GENERATED ALWAYS AS (100 / (age - 3000000)) STORED",
    "ALTER TABLE users ADD CHECK ({e}) NOT VALID", "ALTER TABLE users ADD CHECK ({e})",
    "CREATE UNIQUE INDEX ON users ({c})", "CREATE UNIQUE INDEX ON users ({c}, {n})",
    "CREATE UNIQUE INDEX ON users ({n})", "CREATE UNIQUE INDEX ON users ({n}) NULLS NOT DISTINCT",
    "CREATE UNIQUE INDEX ON users ({c}) WHERE {e}", "CREATE UNIQUE INDEX ON users ({c}, {c2})",
    "CREATE INDEX ON users ({c})", "CREATE INDEX ON users (lower({c}::text))",
    "CREATE INDEX ON users (({c}::text::int))", "ALTER TABLE users ADD UNIQUE ({c})",
    "ALTER TABLE users ADD UNIQUE ({c}, {n})", "ALTER TABLE users ADD FOREIGN KEY ({n}) REFERENCES teams",
    "ALTER TABLE users ADD FOREIGN KEY ({c}) REFERENCES teams NOT VALID", "ALTER TABLE users ALTER {c} SET NOT NULL",
    "ALTER TABLE users ALTER {n} SET NOT NULL", "ALTER TABLE users ALTER {c} DROP NOT NULL",
    "ALTER TABLE users ALTER {c} SET DEFAULT NULL", "ALTER TABLE users ALTER {n} SET DEFAULT {d}",
    "ALTER TABLE users ALTER {n} DROP DEFAULT", "ALTER TABLE users ALTER {c} DROP DEFAULT",
    "UPDATE users SET {n} = id", "ALTER TABLE users ALTER {c} TYPE {t}",
    "ALTER TABLE users ALTER {c} TYPE {t} USING {c}::{t}",
    "ALTER TABLE users ALTER {c} TYPE {t} USING {c}::text::{t}", "ALTER TABLE users ALTER {n} TYPE {t}",
    "ALTER TABLE users DROP COLUMN {n}", "ALTER TABLE users RENAME {n} TO {n2}", "ALTER TABLE users DROP COLUMN {c}",
    "ALTER TABLE users DROP COLUMN IF EXISTS zzz", "CREATE TABLE nt (a int)", "ALTER TABLE nt ADD CHECK (a > 0)",
    "DROP TABLE nt", "DROP TABLE IF EXISTS nt", "ALTER TABLE nt RENAME TO legacy",
    "ALTER TABLE legacy RENAME TO old_legacy", "DROP TABLE legacy", "CREATE TABLE legacy (id int, what text)",
    "CREATE VIEW legacy AS SELECT * FROM old_legacy", "DROP VIEW grown",
    "CREATE VIEW grown AS SELECT id, email FROM users",
    "CREATE OR REPLACE VIEW grown AS SELECT id, email, name FROM users WHERE adult",
    "CREATE OR REPLACE VIEW grown AS SELECT id, email FROM users WHERE adult AND age > 20",
    "CREATE OR REPLACE VIEW grown AS SELECT u.id, u.email FROM users u WHERE u.adult", "DROP FUNCTION twice",
    "CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 7'",
    "CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2'",
    "CREATE FUNCTION twice(n bigint) RETURNS bigint LANGUAGE sql AS 'SELECT n'", "DROP FUNCTION IF EXISTS nope()",
    "DROP INDEX users_name_idx", "DROP INDEX users_code_idx", "ALTER INDEX users_code_idx RENAME TO z",
    "ALTER TABLE users DROP CONSTRAINT users_email_key", "ALTER TABLE users DROP CONSTRAINT users_age_check",
    "ALTER TABLE users DROP CONSTRAINT users_team_id_fkey",
    "ALTER TABLE users DROP CONSTRAINT IF EXISTS users_email_key",
    "ALTER TABLE users RENAME CONSTRAINT users_email_key TO zz",
    "ALTER TABLE users ADD CONSTRAINT users_email_key UNIQUE (email)",
    "CREATE UNIQUE INDEX users_code_idx ON users (code)", "CREATE UNIQUE INDEX nu ON users (email)",
    "CREATE UNIQUE INDEX nc ON users (code)",
    "ALTER TABLE users ADD CONSTRAINT users_email_key UNIQUE USING INDEX nu", "ALTER TYPE role ADD VALUE 'x'",
    "ALTER TYPE role RENAME TO role2", "CREATE TYPE role AS ENUM ('user','admin')",
    "CREATE TYPE role3 AS ENUM ('user','admin')", "ALTER TYPE role3 RENAME TO role",
    "ALTER TABLE users ALTER role DROP DEFAULT, ALTER role TYPE role3 USING role::text::role3, ALTER role SET DEFAULT 'user'",
    "DROP TYPE role2", "ALTER TABLE logs ALTER size DROP EXPRESSION", "ALTER TABLE logs ALTER n DROP IDENTITY",
    "ALTER TABLE logs ALTER n SET GENERATED ALWAYS", "ALTER TABLE logs ALTER n SET GENERATED BY DEFAULT",
    "ALTER TABLE logs ADD COLUMN x3 int GENERATED ALWAYS AS IDENTITY UNIQUE",
    "ALTER TABLE users REPLICA IDENTITY NOTHING", "CREATE PUBLICATION pp FOR TABLE users",
    "ALTER TABLE legacy REPLICA IDENTITY FULL", "CREATE PUBLICATION pl FOR TABLE legacy",
    "GRANT SELECT ON users TO PUBLIC", "REVOKE ALL ON legacy FROM old_code", "ALTER TABLE legacy OWNER TO postgres",
    "ALTER TABLE legacy ENABLE ROW LEVEL SECURITY", "CREATE POLICY po ON legacy USING (true)",
    "CREATE TRIGGER tt BEFORE INSERT ON legacy FOR EACH ROW EXECUTE FUNCTION stamp()",
    "ALTER SEQUENCE tickets OWNED BY users.id", "ALTER SEQUENCE users_id_seq AS bigint",
    "ALTER SEQUENCE tickets MAXVALUE 1", "ALTER DOMAIN amount ADD CHECK (VALUE < 3)",
    "ALTER DOMAIN amount DROP NOT NULL", "ALTER TYPE spot ADD ATTRIBUTE z int",
    "ALTER TYPE spot ALTER ATTRIBUTE x TYPE bigint", "INSERT INTO legacy VALUES (5)",
    "DELETE FROM legacy WHERE id = 77", "TRUNCATE legacy", "SELECT setval('tickets', 5)", "SELECT twice(1)",
    "REFRESH MATERIALIZED VIEW totals", "COMMENT ON TABLE users IS 'x'",
    "CREATE TABLE events_2027 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
    "CREATE TABLE ev (LIKE events INCLUDING ALL)",
    "ALTER TABLE events ATTACH PARTITION ev FOR VALUES FROM ('2028-01-01') TO ('2029-01-01')",
    "ALTER TABLE events DETACH PARTITION events_2026", "SET search_path = audit, public",
    "CREATE TABLE audit.users (a int)", "CREATE TABLE users (a int)", "ALTER TABLE entries ADD COLUMN q int",
    "CREATE TABLE kid () INHERITS (legacy)", "ALTER TABLE legacy ALTER what SET STORAGE EXTERNAL",
    "ALTER TABLE users SET (fillfactor = 70)", "ALTER TABLE users CLUSTER ON users_pkey",
    'ALTER TABLE users ALTER short SET DATA TYPE text COLLATE "C"', "ALTER TABLE users ADD COLUMN x4 serial",
    "ALTER TABLE users ADD COLUMN x5 uuid DEFAULT gen_random_uuid() UNIQUE NOT NULL",
    "ALTER TABLE users ADD COLUMN x6 timestamptz DEFAULT now() UNIQUE",
    "ALTER TABLE users VALIDATE CONSTRAINT users_age_check",
)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab"), template()) as found:
        yield found


def by_chance(seed: int) -> str:
    """Return a migration of one to four statements."""
    draw = random.Random(seed)  # noqa: S311 - a seed has to give the same migration again

    def change() -> str:
        new = [draw.choice(("x1", "x2")) for _ in range(2)]
        column = draw.choice(COLUMNS)
        check = draw.choice(CHECKS).format(c=column, n=draw.choice([new[0], draw.choice(COLUMNS)]))
        return draw.choice(CHANGES).format(
            c=column,
            c2=draw.choice(COLUMNS),
            n=new[0],
            n2=new[1],
            t=draw.choice(TYPES),
            d=draw.choice(DEFAULTS),
            e=check,
        )

    return "; ".join(change() for _ in range(draw.choice((1, 1, 2, 2, 3, 4))))


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_nothing_that_old_code_notices_is_called_safe(lab: Lab) -> None:
    """Migrations that Postgres refuses say nothing, and are passed over; enough of each verdict must be left."""
    seen: dict[Compatibility, int] = dict.fromkeys(Compatibility, 0)
    wrong = []
    for seed in range(SEEDS):
        sql = by_chance(seed)
        try:
            effect = lab.effect(sql)
        except psycopg.Error:
            continue
        verdict = judge([MigrationFile("base", BASE), MigrationFile("change", sql)])[1].verdict
        seen[verdict] += 1
        if verdict is Compatibility.SAFE and effect.noticed:
            wrong.append((seed, sql, effect))
    assert wrong == []
    assert all(count > SEEDS / 20 for count in seen.values()), seen
