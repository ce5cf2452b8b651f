"""What was written between the moment of a copy and now, by table and key: on a real cluster and its side instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.errors import ProviderUnavailable
from backout.model.database.recovery import SideOrder
from backout.model.database.wal import parse_lsn
from backout.model.database.written_since import WrittenTable
from backout.providers.postgres.comparison.written_since import list_written_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEFORE = """
CREATE TABLE plain (id int PRIMARY KEY, n int);
INSERT INTO plain SELECT i, 0 FROM generate_series(1, 3000) AS i;
CREATE TABLE "Odd ""name" (a text, "b, c" timestamptz, n int, UNIQUE (n), PRIMARY KEY (a, "b, c"));
INSERT INTO "Odd ""name" VALUES ('it''s', '2026-01-01 UTC', 1), (E'back\\\\slash\ttab', '2026-01-02 UTC', 2);
CREATE TABLE keyless (n int);
INSERT INTO keyless VALUES (1), (2), (3);
CREATE TABLE still (id int PRIMARY KEY);
INSERT INTO still VALUES (1);
CREATE TABLE doomed (id int PRIMARY KEY);
INSERT INTO doomed VALUES (1), (2);
CREATE TABLE large (id int PRIMARY KEY, n int DEFAULT 0, filler char(84) DEFAULT '');
INSERT INTO large SELECT i FROM generate_series(1, 150000) AS i;
CREATE TABLE parts (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
CREATE TABLE part_one PARTITION OF parts FOR VALUES FROM (0) TO (100);
INSERT INTO parts VALUES (1, 0), (2, 0);
"""
SINCE = """
INSERT INTO plain SELECT i, 0 FROM generate_series(3001, 3005) AS i;
UPDATE plain SET n = 1 WHERE id IN (7, 70);
DELETE FROM plain WHERE id = 700;
DELETE FROM plain WHERE id = 8; INSERT INTO plain VALUES (8, 0);
UPDATE "Odd ""name" SET n = 3 WHERE n = 1;
DELETE FROM "Odd ""name" WHERE n = 2;
INSERT INTO keyless VALUES (4); DELETE FROM keyless WHERE n = 1;
DROP TABLE doomed;
CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh VALUES (5);
UPDATE parts SET n = 1 WHERE id = 2;
UPDATE large SET n = 1 WHERE id IN (5, 149999);
DELETE FROM large WHERE id = 40;
INSERT INTO large VALUES (150001);
BEGIN; UPDATE still SET id = 2; ROLLBACK;
VACUUM (FREEZE) plain;
"""
SORTED = "SELECT temp_files FROM pg_stat_database WHERE datname = 'postgres'"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with opened(tmp_path, template()) as made:
        yield made


@pytest.mark.long
def test_each_write_since_is_listed_by_table_and_key(lab: Lab) -> None:
    """Inserted, updated, deleted, put back under its key; what was rolled back or only vacuumed is none.

    Nobody is served meanwhile: of a large table only the stretches of pages are sorted to which something was written.
    """
    with lab.connect() as session:
        session.execute(BEFORE)
    lab.base("one")
    moment = lab.reached()
    with lab.connect() as session:
        for statement in SINCE.strip().split(";\n"):
            session.execute(statement)
    lab.archived()
    names = tuple(each.name for each in lab.backups.wal())
    side = lab.tools().sides.start(
        SideOrder("then", "one", parse_lsn(moment), 1, names), lambda _doing, _done, _whole: None
    )
    sorted_before = lab.rows(SORTED)
    found = {each.table: each for each in list_written_rows(lab.dsn, side.dsn, "postgres", most=3)}
    assert found == {
        "public.plain": WrittenTable(
            "public.plain", ("id",), 5, 3, 1, ("'3001'", "'3002'", "'3003'"), ("'7'", "'70'", "'8'"), ("'700'",)
        ),
        'public."Odd ""name"': WrittenTable(
            'public."Odd ""name"',
            ("a", "b, c"),
            0,
            1,
            1,
            (),
            ("'it''s', '2026-01-01 00:00:00+00'",),
            ("E'back\\\\slash\ttab', '2026-01-02 00:00:00+00'",),
        ),
        "public.keyless": WrittenTable("public.keyless", (), 1, 0, 1),
        "public.doomed": WrittenTable("public.doomed", ("id",), 0, 0, 2, deleted=("'1'", "'2'"), is_gone=True),
        "public.fresh": WrittenTable("public.fresh", ("id",), 1, 0, 0, ("'5'",), is_new=True),
        "public.large": WrittenTable("public.large", ("id",), 1, 2, 1, ("'150001'",), ("'149999'", "'5'"), ("'40'",)),
        "public.part_one": WrittenTable("public.part_one", ("id",), 0, 1, 0, (), ("'2'",)),
    }
    (only,) = list_written_rows(lab.dsn, side.dsn, "postgres", tables=["public.keyless", "public.still"])
    assert only.table == "public.keyless"
    assert lab.rows(SORTED) == sorted_before, "large, on the disk"
    with pytest.raises(ProviderUnavailable):
        list_written_rows(lab.dsn, side.dsn, "postgres", within_s=0.0)
    with psycopg.connect(lab.dsn) as session:  # each listed key selects its row, as it is printed
        for key in ("'7'", "'8'"):
            assert session.execute(f"SELECT 1 FROM plain WHERE (id) = ({key})".encode()).fetchone()  # noqa: S608
