"""The twin's memory: one SQLite file (WAL, 0600) and a folder of content-addressed blobs; it survives kill -9.

Every method is one transaction. Secrets live here and nowhere else on disk.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec

from backout.decoding import decode_raw
from backout.twin.control.records import AssetSession, D1Record, Deployment, HyperdriveConfig, Script, Version

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

MAX_UNKNOWN_ROUTES = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scripts (name TEXT PRIMARY KEY, spec BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS versions (
  id TEXT PRIMARY KEY, script TEXT NOT NULL, number INTEGER NOT NULL, spec BLOB NOT NULL, UNIQUE (script, number)
) STRICT;
CREATE TABLE IF NOT EXISTS deployments (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, script TEXT NOT NULL, spec BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS deployments_of ON deployments (script, seq);
CREATE TABLE IF NOT EXISTS asset_sessions (id TEXT PRIMARY KEY, spec BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS assets (hash TEXT PRIMARY KEY, blob TEXT NOT NULL, content_type TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created_at REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS hyperdrives (id TEXT PRIMARY KEY, spec BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS d1_databases (id TEXT PRIMARY KEY, spec BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS unknown_routes (route TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT;
"""


class BlobStore:
    """Files named by the SHA-256 of their content; writing the same bytes twice is one file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def put(self, data: bytes) -> str:
        """Store the bytes and return their hash."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(data)
            os.replace(temporary, path)  # noqa: PTH105 - atomic: a blob is whole or absent
        return digest

    def path(self, digest: str) -> Path:
        """Return where the bytes with this hash are, or would be."""
        return self._directory / digest[:2] / digest


class State:
    """The database of one twin.

    Args:
        path: the SQLite file; it is created with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600, exist_ok=True)
        path.chmod(0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # scripts

    def script(self, name: str) -> Script | None:
        """Return the script, or None."""
        return self._one("SELECT spec FROM scripts WHERE name = ?", (name,), Script)

    def scripts(self) -> tuple[Script, ...]:
        """Return every script by name."""
        return self._all("SELECT spec FROM scripts ORDER BY name", (), Script)

    def save_script(self, script: Script) -> None:
        """Write what belongs to the script itself."""
        self._db.execute("INSERT OR REPLACE INTO scripts VALUES (?, ?)", (script.name, _decode_blob(script)))

    def delete_script(self, name: str) -> None:
        """Forget the script, its versions and its deployments."""
        with self._transaction():
            for table, column in (("scripts", "name"), ("versions", "script"), ("deployments", "script")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))  # noqa: S608 - constants

    # Hyperdrive configurations

    def hyperdrives(self) -> tuple[HyperdriveConfig, ...]:
        """Return every Hyperdrive configuration, oldest first."""
        return self._all("SELECT spec FROM hyperdrives ORDER BY rowid", (), HyperdriveConfig)

    def hyperdrive(self, config_id: str) -> HyperdriveConfig | None:
        """Return one, or None."""
        return self._one("SELECT spec FROM hyperdrives WHERE id = ?", (config_id,), HyperdriveConfig)

    def save_hyperdrive(self, config: HyperdriveConfig) -> None:
        """Write one."""
        self._db.execute(
            "INSERT INTO hyperdrives VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET spec = excluded.spec",
            (config.id, _decode_blob(config)),
        )

    def delete_hyperdrive(self, config_id: str) -> None:
        """Forget one."""
        self._db.execute("DELETE FROM hyperdrives WHERE id = ?", (config_id,))

    # D1 databases

    def d1_databases(self) -> tuple[D1Record, ...]:
        """Return every D1 database that was made by the API, oldest first."""
        return self._all("SELECT spec FROM d1_databases ORDER BY rowid", (), D1Record)

    def save_d1_database(self, database: D1Record) -> None:
        """Write a new one."""
        self._db.execute("INSERT INTO d1_databases VALUES (?, ?)", (database.id, _decode_blob(database)))

    def delete_d1_database(self, database_id: str) -> None:
        """Forget one."""
        self._db.execute("DELETE FROM d1_databases WHERE id = ?", (database_id,))

    # versions and deployments

    def versions(self, script: str, *, limit: int = -1, offset: int = 0) -> tuple[Version, ...]:
        """Return the script's versions, newest first."""
        return self._all(
            "SELECT spec FROM versions WHERE script = ? ORDER BY number DESC LIMIT ? OFFSET ?",
            (script, limit, offset),
            Version,
        )

    def version_count(self, script: str) -> int:
        """Return how many versions the script has."""
        row = self._db.execute("SELECT count(*) FROM versions WHERE script = ?", (script,)).fetchone()
        return int(row[0])

    def version(self, script: str, version_id: str) -> Version | None:
        """Return one version of the script, or None."""
        return self._one("SELECT spec FROM versions WHERE script = ? AND id = ?", (script, version_id), Version)

    def latest(self, script: str) -> Version | None:
        """Return the version uploaded last, deployed or not."""
        found = self.versions(script, limit=1)
        return found[0] if found else None

    def deployments(self, script: str, *, limit: int = -1) -> tuple[Deployment, ...]:
        """Return the script's deployments, newest first; the first is live."""
        query = "SELECT spec FROM deployments WHERE script = ? ORDER BY seq DESC LIMIT ?"
        return self._all(query, (script, limit), Deployment)

    def live(self, script: str) -> Deployment | None:
        """Return the deployment in force, or None."""
        found = self.deployments(script, limit=1)
        return found[0] if found else None

    def record(self, script: Script, *, version: Version | None = None, deployment: Deployment | None = None) -> None:
        """Write a script with a new version and a new deployment: all of them or nothing."""
        with self._transaction():
            self.save_script(script)
            if version is not None:
                row = (version.id, version.script, version.number, _decode_blob(version))
                self._db.execute("INSERT INTO versions VALUES (?, ?, ?, ?)", row)
            if deployment is not None:
                values = (deployment.id, deployment.script, _decode_blob(deployment))
                self._db.execute("INSERT INTO deployments (id, script, spec) VALUES (?, ?, ?)", values)

    # static files

    def save_asset_session(self, session: AssetSession) -> None:
        """Remember an announced manifest."""
        self._db.execute("INSERT OR REPLACE INTO asset_sessions VALUES (?, ?)", (session.id, _decode_blob(session)))

    def asset_session(self, session_id: str) -> AssetSession | None:
        """Return the announced manifest, or None."""
        return self._one("SELECT spec FROM asset_sessions WHERE id = ?", (session_id,), AssetSession)

    def save_asset(self, asset_hash: str, blob: str, content_type: str) -> None:
        """Remember an uploaded file under wrangler's own hash of it."""
        self._db.execute("INSERT OR REPLACE INTO assets VALUES (?, ?, ?)", (asset_hash, blob, content_type))

    def asset(self, asset_hash: str) -> tuple[str, str] | None:
        """Return (blob, content type) of an uploaded file, or None."""
        row = self._db.execute("SELECT blob, content_type FROM assets WHERE hash = ?", (asset_hash,)).fetchone()
        return None if row is None else (str(row[0]), str(row[1]))

    # buckets

    def buckets(self) -> tuple[tuple[str, float], ...]:
        """Return (name, created at) of every R2 bucket, by name."""
        return tuple((str(n), float(c)) for n, c in self._db.execute("SELECT * FROM buckets ORDER BY name"))

    def add_bucket(self, name: str) -> None:
        """Remember a bucket; known ones stay as they are."""
        self._db.execute("INSERT OR IGNORE INTO buckets VALUES (?, ?)", (name, time.time()))

    def delete_bucket(self, name: str) -> None:
        """Forget a bucket."""
        self._db.execute("DELETE FROM buckets WHERE name = ?", (name,))

    # what the twin could not answer

    def count_unknown_route(self, route: str) -> None:
        """Count a request (`GET /path`) that the twin has no answer for."""
        seen = self._db.execute("UPDATE unknown_routes SET count = count + 1 WHERE route = ?", (route,)).rowcount
        if not seen and len(self.list_unknown_routes()) < MAX_UNKNOWN_ROUTES:
            self._db.execute("INSERT INTO unknown_routes VALUES (?, 1)", (route,))

    def list_unknown_routes(self) -> tuple[str, ...]:
        """Return every route asked for in vain."""
        return tuple(str(row[0]) for row in self._db.execute("SELECT route FROM unknown_routes ORDER BY route"))

    # inside

    def _one(self, query: str, values: tuple[object, ...], type_: type[T]) -> T | None:
        row = self._db.execute(query, values).fetchone()
        return None if row is None else decode_raw(row[0], type_)

    def _all(self, query: str, values: tuple[object, ...], type_: type[T]) -> tuple[T, ...]:
        return tuple(decode_raw(row[0], type_) for row in self._db.execute(query, values))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK when the block raises."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _decode_blob(value: object) -> bytes:
    return msgspec.json.encode(value)
