"""The journal's tables as forward migrations; the rule: history is only appended, and the database itself refuses more.

The owner of the file can drop a trigger; the hash chain (`chain.py`) makes that visible afterwards.
"""

from __future__ import annotations

_VERSION_1 = (
    """CREATE TABLE event (
        seq INTEGER PRIMARY KEY, at REAL NOT NULL, environment TEXT NOT NULL, run TEXT NOT NULL, step INTEGER,
        kind TEXT NOT NULL, data TEXT NOT NULL, actor TEXT NOT NULL, prev_hash TEXT NOT NULL, hash TEXT NOT NULL)""",
    "CREATE INDEX event_by_run ON event (run, seq)",
    "CREATE INDEX event_by_kind ON event (kind, environment, seq)",
    # A watch may write thousands of progress rows: what a run is made of is read without walking over them.
    "CREATE INDEX event_of_run ON event (run, seq) WHERE kind <> 'step.progress'",
    "CREATE INDEX event_progress ON event (run, step, seq) WHERE kind = 'step.progress'",
    # The newest link, so that an event cut off at the end of the chain is missed as well.
    "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL)",
    "INSERT INTO head VALUES (1, 0, '')",
    """CREATE TABLE lease (
        environment TEXT PRIMARY KEY, fence INTEGER NOT NULL, run TEXT NOT NULL, host TEXT NOT NULL,
        pid INTEGER NOT NULL, process_start TEXT NOT NULL, command TEXT NOT NULL,
        since REAL NOT NULL, expires_at REAL NOT NULL)""",
    """CREATE TABLE counts (
        environment TEXT NOT NULL, second INTEGER NOT NULL, version TEXT NOT NULL, requests INTEGER NOT NULL,
        errors INTEGER NOT NULL, canceled INTEGER NOT NULL, latency TEXT NOT NULL,
        PRIMARY KEY (environment, second, version)) WITHOUT ROWID""",
    """CREATE TABLE checkpoint (
        run TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL, data TEXT NOT NULL,
        PRIMARY KEY (run, name)) WITHOUT ROWID""",
    """CREATE TRIGGER event_no_update BEFORE UPDATE ON event
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only: an event cannot be changed'); END""",
    """CREATE TRIGGER event_no_delete BEFORE DELETE ON event
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only: an event cannot be deleted'); END""",
    # INSERT OR REPLACE deletes without firing the trigger above: an event may only follow the newest one.
    """CREATE TRIGGER event_in_order BEFORE INSERT ON event WHEN NEW.seq IS NOT (SELECT seq + 1 FROM head)
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only: an event must follow the newest one'); END""",
    """CREATE TRIGGER head_forward BEFORE UPDATE ON head WHEN NEW.seq <= OLD.seq
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only: its head only moves forward'); END""",
    """CREATE TRIGGER head_no_delete BEFORE DELETE ON head
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only: its head cannot be deleted'); END""",
    """CREATE TRIGGER head_alone BEFORE INSERT ON head
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only: it has one head'); END""",
    """CREATE TRIGGER lease_fence_grows BEFORE UPDATE ON lease WHEN NEW.fence < OLD.fence
        BEGIN SELECT RAISE(ABORT, 'a fence number never decreases'); END""",
    """CREATE TRIGGER lease_no_delete BEFORE DELETE ON lease
        BEGIN SELECT RAISE(ABORT, 'a lease is released, never deleted: its fence number must survive'); END""",
)

_VERSION_2 = ("ALTER TABLE counts ADD COLUMN routes TEXT NOT NULL DEFAULT '{}'",)

_VERSION_3 = ("ALTER TABLE counts ADD COLUMN answers TEXT NOT NULL DEFAULT '{}'",)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2, _VERSION_3)
"""The statements that lead from schema version `i` to `i + 1`; a released entry is never edited."""

VERSION = len(MIGRATIONS)

MOVED = 1_000_000
"""The version of a file whose events are on a server now: no version opens it, an older one finds it too new."""

_MOVED_AWAY = "RAISE(ABORT, 'the journal was moved to a server')"
CLOSING = (
    # A process that has the file open already looks at no version any more.
    f"CREATE TRIGGER event_moved BEFORE INSERT ON event BEGIN SELECT {_MOVED_AWAY}; END",
    f"CREATE TRIGGER lease_moved BEFORE UPDATE ON lease BEGIN SELECT {_MOVED_AWAY}; END",
    f"CREATE TRIGGER lease_moved_new BEFORE INSERT ON lease BEGIN SELECT {_MOVED_AWAY}; END",
    f"INSERT INTO schema_version VALUES ({MOVED}, ?)",  # noqa: S608 our own number
)
"""What closes such a file for good."""

VERSION_TABLE = (
    "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, at REAL NOT NULL)",
    """CREATE TRIGGER IF NOT EXISTS schema_version_no_update BEFORE UPDATE ON schema_version
        BEGIN SELECT RAISE(ABORT, 'the history of the schema is append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS schema_version_no_delete BEFORE DELETE ON schema_version
        BEGIN SELECT RAISE(ABORT, 'the history of the schema is append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS schema_version_forward BEFORE INSERT ON schema_version
        WHEN NEW.version <= (SELECT MAX(version) FROM schema_version)
        BEGIN SELECT RAISE(ABORT, 'the history of the schema is append-only'); END""",
)
