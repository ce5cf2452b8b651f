"""The journal's tables on Postgres as forward migrations; the rule: history is only appended, for every role.

Triggers refuse what is no appending, whoever asks, also where `session_replication_role` turns others off. The owner of
the tables can drop them; a role that is granted `GRANTS` cannot, and the hash chain (`chain.py`) shows it afterwards.

Source: PostgreSQL 18, "CREATE TRIGGER", "ALTER TABLE, ENABLE ALWAYS TRIGGER", "GRANT", "Schemas, Privileges"
(`SELECT FOR UPDATE` asks for UPDATE on a column of the table).
"""

from __future__ import annotations

from typing import Final

SCHEMA: Final = "backout"

_REFUSE: Final = """CREATE FUNCTION backout.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
    BEGIN RAISE EXCEPTION 'the journal is append-only: % of % is refused', TG_OP, TG_TABLE_NAME; END $$"""
_IN_ORDER: Final = """CREATE FUNCTION backout.event_in_order() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM backout.head WHERE seq + 1 = NEW.seq AND hash = NEW.prev_hash) THEN
            RAISE EXCEPTION 'the journal is append-only: an event must follow the newest one';
        END IF;
        RETURN NEW;
    END $$"""
_FORWARD: Final = """CREATE FUNCTION backout.head_forward() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog AS $$
    BEGIN
        IF NEW.one <> OLD.one OR NEW.seq <> OLD.seq + 1
            OR NOT EXISTS (SELECT FROM backout.event WHERE seq = NEW.seq AND hash = NEW.hash) THEN
            RAISE EXCEPTION 'the journal is append-only: its head only moves to the next event';
        END IF;
        RETURN NEW;
    END $$"""
_GROWS: Final = """CREATE FUNCTION backout.lease_fence_grows() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog AS $$
    BEGIN
        IF NEW.fence < OLD.fence OR NEW.environment <> OLD.environment THEN
            RAISE EXCEPTION 'a fence number never decreases';
        END IF;
        RETURN NEW;
    END $$"""
_LATER: Final = """CREATE FUNCTION backout.schema_version_forward() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog AS $$
    BEGIN
        IF NEW.version <= (SELECT max(version) FROM backout.schema_version) THEN
            RAISE EXCEPTION 'the history of the schema is append-only';
        END IF;
        RETURN NEW;
    END $$"""


def _make_trigger(table: str, name: str, when: str, function: str) -> tuple[str, str]:
    each = "STATEMENT" if "TRUNCATE" in when else "ROW"
    made = f"CREATE TRIGGER {name} BEFORE {when} ON backout.{table} FOR EACH {each} EXECUTE FUNCTION {function}()"
    return made, f"ALTER TABLE backout.{table} ENABLE ALWAYS TRIGGER {name}"


# Texts are compared byte by byte, as SQLite does, whatever the database's locale is.
_VERSION_1: Final = (
    """CREATE TABLE backout.event (
        seq bigint PRIMARY KEY, at float8 NOT NULL, environment text COLLATE "C" NOT NULL,
        run text COLLATE "C" NOT NULL, step integer, kind text COLLATE "C" NOT NULL, data text NOT NULL,
        actor text NOT NULL, prev_hash text NOT NULL, hash text NOT NULL)""",
    "CREATE INDEX event_by_run ON backout.event (run, seq)",
    "CREATE INDEX event_by_kind ON backout.event (kind, environment, seq)",
    "CREATE INDEX event_of_run ON backout.event (run, seq) WHERE kind <> 'step.progress'",
    "CREATE INDEX event_progress ON backout.event (run, step, seq) WHERE kind = 'step.progress'",
    # `moving` names the journal that is being moved here, "" where none is: nobody else writes or reads meanwhile.
    """CREATE TABLE backout.head (one integer PRIMARY KEY CHECK (one = 1), seq bigint NOT NULL, hash text NOT NULL,
        moving text NOT NULL DEFAULT '')""",
    "INSERT INTO backout.head VALUES (1, 0, '', '')",
    """CREATE TABLE backout.lease (
        environment text COLLATE "C" PRIMARY KEY, fence bigint NOT NULL, run text NOT NULL, host text NOT NULL,
        pid bigint NOT NULL, process_start text NOT NULL, command text NOT NULL, since float8 NOT NULL,
        expires_at float8 NOT NULL)""",
    """CREATE TABLE backout.counts (
        environment text COLLATE "C" NOT NULL, second bigint NOT NULL, version text COLLATE "C" NOT NULL,
        requests bigint NOT NULL, errors bigint NOT NULL, canceled bigint NOT NULL, latency text NOT NULL,
        routes text NOT NULL, answers text NOT NULL, PRIMARY KEY (environment, second, version))""",
    """CREATE TABLE backout.checkpoint (
        run text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, at float8 NOT NULL, data text NOT NULL,
        PRIMARY KEY (run, name))""",
    _REFUSE,
    _IN_ORDER,
    _FORWARD,
    _GROWS,
    *_make_trigger("event", "event_in_order", "INSERT", "backout.event_in_order"),
    *_make_trigger("event", "event_no_change", "UPDATE OR DELETE", "backout.refuse"),
    *_make_trigger("event", "event_no_truncate", "TRUNCATE", "backout.refuse"),
    *_make_trigger("head", "head_forward", "UPDATE OF one, seq, hash", "backout.head_forward"),
    *_make_trigger("head", "head_alone", "INSERT OR DELETE", "backout.refuse"),
    *_make_trigger("head", "head_no_truncate", "TRUNCATE", "backout.refuse"),
    *_make_trigger("lease", "lease_fence_grows", "UPDATE", "backout.lease_fence_grows"),
    *_make_trigger("lease", "lease_no_delete", "DELETE", "backout.refuse"),
    *_make_trigger("lease", "lease_no_truncate", "TRUNCATE", "backout.refuse"),
)

# Who wrote an event is what the server says, by its own name for the login: no SET ROLE changes that. What is moved
# here was written elsewhere, by nobody whom this server knows; of what is older than the column it is not known.
_WRITTEN_BY: Final = """CREATE FUNCTION backout.event_written_by() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog AS $$
    BEGIN
        IF NEW.writer IS DISTINCT FROM session_user::text THEN
            RAISE EXCEPTION 'the journal is append-only: who writes an event is what its server says';
        END IF;
        IF EXISTS (SELECT FROM backout.head WHERE moving <> '') THEN
            NEW.writer := NULL;
        END IF;
        RETURN NEW;
    END $$"""
_VERSION_2: Final = (
    'ALTER TABLE backout.event ADD COLUMN writer text COLLATE "C"',
    "ALTER TABLE backout.event ALTER COLUMN writer SET DEFAULT session_user",
    _WRITTEN_BY,
    *_make_trigger("event", "event_written_by", "INSERT", "backout.event_written_by"),
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_VERSION_1, _VERSION_2)
"""The statements that lead from schema version `i` to `i + 1`; a released entry is never edited."""

VERSION: Final = len(MIGRATIONS)

FOUNDATION: Final = (
    "CREATE SCHEMA IF NOT EXISTS backout",
    "CREATE TABLE backout.schema_version (version integer PRIMARY KEY, at float8 NOT NULL)",
    _LATER,
    """CREATE FUNCTION backout.schema_version_refuse() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog AS $$
    BEGIN RAISE EXCEPTION 'the history of the schema is append-only'; END $$""",
    *_make_trigger("schema_version", "schema_version_forward", "INSERT", "backout.schema_version_forward"),
    *_make_trigger("schema_version", "schema_version_no_change", "UPDATE OR DELETE", "backout.schema_version_refuse"),
    *_make_trigger("schema_version", "schema_version_no_truncate", "TRUNCATE", "backout.schema_version_refuse"),
)
"""What is made first, in a database that has no journal."""

GRANTS: Final = (
    "GRANT USAGE ON SCHEMA backout TO {role};",
    "GRANT SELECT ON ALL TABLES IN SCHEMA backout TO {role};",
    "GRANT INSERT (seq, at, environment, run, step, kind, data, actor, prev_hash, hash) ON backout.event TO {role};",
    "GRANT UPDATE (seq, hash) ON backout.head TO {role};",
    "GRANT INSERT, UPDATE ON backout.lease TO {role};",
    "GRANT INSERT, UPDATE, DELETE ON backout.counts, backout.checkpoint TO {role};",
)
"""What a role is granted that may write the journal and not change it, by the owner of the schema."""

# A member of the owner may become it, whether or not it inherits; a trigger of one's own could change what is written.
_MAY_CHANGE: Final = (
    "(r.rolsuper OR pg_has_role(r.oid, c.relowner, 'MEMBER') OR pg_has_role(r.oid, n.nspowner, 'MEMBER')"
    " OR has_any_column_privilege(r.oid, c.oid, 'UPDATE') OR has_table_privilege(r.oid, c.oid, 'DELETE')"
    " OR has_table_privilege(r.oid, c.oid, 'TRUNCATE') OR has_table_privilege(r.oid, c.oid, 'TRIGGER'))"
)
_OF_EVENTS: Final = (
    "FROM pg_roles AS r, pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE c.oid = 'backout.event'::regclass"
)
OWNS: Final = f"SELECT {_MAY_CHANGE} {_OF_EVENTS} AND r.rolname = session_user"
"""Whether this role may change what was written."""
# Whoever may create roles may have as many names as he likes.
VOUCHED: Final = (
    f"SELECT r.rolname::text {_OF_EVENTS} AND NOT r.rolcreaterole AND NOT {_MAY_CHANGE} AND r.rolname::text = ANY (?)"
)
"""Which of some roles can write nothing in another's name."""
