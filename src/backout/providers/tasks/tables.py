"""The schema `backout_tasks`: procrastinate's own tables, and the ranges that its jobs are about.

Nothing in it has to be kept: it holds only what is under way. So it is never migrated; a version of procrastinate or of
these tables that is not the one here is told, with how to make the schema anew.

Source: procrastinate 3.10, `procrastinate/sql/schema.sql`; PostgreSQL 18, "Schemas, Privileges".
"""

from __future__ import annotations

from typing import Final

SCHEMA: Final = "backout_tasks"
SEARCH_PATH: Final = f"pg_catalog, {SCHEMA}, pg_temp"
VERSION: Final = 1
"""Of the tables below."""
MAKE_PATH: Final = f"SET LOCAL search_path = {SCHEMA}, pg_catalog, pg_temp"
"""Procrastinate's schema names nothing in full."""

RANGES: Final = (
    f"CREATE SCHEMA {SCHEMA}",
    f"CREATE TABLE {SCHEMA}.made (version integer NOT NULL, procrastinate text NOT NULL)",
    f"""CREATE TABLE {SCHEMA}.range (
        run text COLLATE "C" NOT NULL, first integer NOT NULL, lane text COLLATE "C" NOT NULL, fence bigint NOT NULL,
        place text NOT NULL, version text NOT NULL, work text NOT NULL,
        worker text NOT NULL DEFAULT '', claim integer NOT NULL DEFAULT 0, began float8, until float8 NOT NULL,
        spans text NOT NULL DEFAULT '[]', done integer NOT NULL DEFAULT 0, carried text, why text NOT NULL DEFAULT '',
        PRIMARY KEY (run, first))""",
)

GRANTS: Final = (
    "GRANT USAGE ON SCHEMA backout_tasks TO {role};",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA backout_tasks TO {role};",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA backout_tasks TO {role};",
)
"""What a role is granted that spreads work or does it, by the owner of the schema, besides what the journal needs."""
