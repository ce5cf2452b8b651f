"""Taking a rescue back from what it kept: each entry in the other direction, where nobody has written since."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from backout.model.recovery import RescueReport, TableRescue
from backout.providers.postgres.libpq import identifier
from backout.providers.postgres.rescue_rows import hold, quietly, refers_to_itself, unreferenced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.providers.postgres.owner_session import OwnerSessions

_Entry = dict[str, Any]
_UNDO = "backout_undo t"


def undo(
    sessions: OwnerSessions, entries: Sequence[tuple[_Entry, bytes]], progress: Callable[[str, int, int], None]
) -> RescueReport:
    """Put everything back, newest first; what is as it was already is left.

    Args:
        sessions: with the live database. entries: what the rescue kept, newest first.
    """
    counts: Counter[tuple[str, str]] = Counter()
    left: dict[str, str] = {}
    definitions: list[str] = []
    for number, (entry, content) in enumerate(entries):
        progress("taking the rescue back", number, len(entries))
        op, table = str(entry["op"]), str(entry["table"])
        live = _of_owner(sessions, entry)
        if op in ("U", "I", "D"):
            counts[table, op] += _rows(live, entry, content)
        elif op == "other":
            live.execute(entry["drop"])
            definitions.append(entry["drop"])
        else:
            # Locked before it is looked at: what somebody writes in between would go with it.
            with live.transaction():
                if _exists(live, entry["sql"]):
                    live.execute(f"LOCK TABLE {entry['sql']} IN ACCESS EXCLUSIVE MODE")
                    left |= (_column if op == "column" else _table)(live, entry, definitions)
    names = dict.fromkeys([*(table for table, _ in counts), *left])
    tables = tuple(
        TableRescue(
            name,
            updated=counts[name, "U"],
            inserted=counts[name, "D"],
            deleted=counts[name, "I"],
            left=left.get(name, ""),
        )
        for name in names
    )
    return RescueReport(tuple(definitions), tables)


def _rows(live: Any, entry: _Entry, content: bytes) -> int:
    """Put the rows of one batch back; a row that is not as the rescue left it is somebody's, and stays."""
    names: list[str] = entry["columns"]
    key: list[str] = entry["key"]
    new = [name.removeprefix("n_") for name in names if name.startswith("n_")]
    old = [name.removeprefix("o_") for name in names if name.startswith("o_")]
    table: str = entry["sql"]
    if not _exists(live, table) or not {*new, *old} <= _columns(live, table):
        return 0  # an undo that was killed took them away before: behind the rows that stood in them
    prefix = "n_" if entry["op"] == "I" else "o_"
    keyed = " AND ".join(f"l.{identifier(name)} OPERATOR(pg_catalog.=) t.{identifier(prefix + name)}" for name in key)
    untouched = "record_image_eq(ROW({}), ROW({}))".format(
        ", ".join(f"l.{identifier(name)}" for name in new), ", ".join(f"t.{identifier('n_' + name)}" for name in new)
    )
    if entry["op"] == "U":
        assigned = ", ".join(f"{identifier(name)} = t.{identifier('o_' + name)}" for name in new)
        apply = f"UPDATE ONLY {table} l SET {assigned} FROM {_UNDO} WHERE {keyed} AND {untouched}"
    elif entry["op"] == "I":
        free = " AND ".join([untouched, *unreferenced(live, entry["oid"])])
        apply = f"DELETE FROM ONLY {table} l USING {_UNDO} WHERE {keyed} AND {free}"
    else:
        columns = ", ".join(identifier(name) for name in old)
        values = ", ".join(f"t.{identifier('o_' + name)}" for name in old)
        apply = (
            f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {_UNDO} "
            "ON CONFLICT DO NOTHING"
        )
    with live.transaction():
        _load(live, table, names, content)
        hold(live, entry["oid"], table)
        count = found = quietly(live, entry["oid"], table, apply, _UNDO)
        while found and entry["op"] == "I" and refers_to_itself(live, entry["oid"]):  # leaves first, then theirs
            count += (found := quietly(live, entry["oid"], table, apply, _UNDO))
        return count


def _of_owner(sessions: OwnerSessions, entry: _Entry) -> Any:
    """Return the session of whose table, or view, an entry is about."""
    query = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = to_regclass(%s)"
    found = sessions.administrator.execute(query, (entry["sql"],)).fetchone() if "sql" in entry else None
    owner = found[0] if found else entry.get("owner")
    return sessions.of(str(owner)) if owner else sessions.administrator


def _exists(live: Any, table: str) -> bool:
    return bool(live.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()[0])


def _columns(live: Any, table: str) -> set[str]:
    query = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
    return {str(name) for (name,) in live.execute(query, (table,)).fetchall()}


def _load(live: Any, table: str, names: Sequence[str], content: bytes) -> None:
    columns = ", ".join(f"{identifier(name[2:])} AS {identifier(name)}" for name in names)
    live.execute("DROP TABLE IF EXISTS backout_undo")
    live.execute(f"CREATE TEMP TABLE backout_undo AS SELECT {columns} FROM {table} WITH NO DATA")
    with live.cursor().copy("COPY backout_undo FROM STDIN") as copy:
        copy.write(content)
    live.execute("ANALYZE backout_undo")


def _column(live: Any, entry: _Entry, definitions: list[str]) -> dict[str, str]:
    """Drop a column that was added again, unless somebody has written to it since.

    Its values were put back to the default by the batches before, so any other value is somebody's.
    """
    name = identifier(entry["column"])
    there = live.execute(
        "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped",
        (entry["sql"], entry["column"]),
    ).fetchone()
    if there is None:
        return {}
    default = entry["default"]
    query = f"SELECT count(*) FROM {entry['sql']} WHERE {name} IS NOT NULL"
    if default is not None:
        query = f"SELECT count(*) FROM {entry['sql']} WHERE {name}::text IS DISTINCT FROM ({default})::text"
    (used,) = live.execute(query).fetchone()
    if used:
        return {entry["table"]: f"column {entry['column']} stays: {used} rows were written since"}
    statement = f"ALTER TABLE {entry['sql']} DROP COLUMN {name}"
    live.execute(statement)
    definitions.append(statement)
    return {}


def _table(live: Any, entry: _Entry, definitions: list[str]) -> dict[str, str]:
    """Drop a table that was made again, unless somebody has written to it since."""
    xid = int(entry["xid"]) % (1 << 32)
    query = f"SELECT count(*) FILTER (WHERE xmin::text = %s), count(*) FROM ONLY {entry['sql']}"
    ours, every = live.execute(query, (str(xid),)).fetchone()
    if ours != entry["rows"] or every != entry["rows"]:
        return {entry["table"]: "the table stays: rows were written since"}
    statement = f"DROP TABLE {entry['sql']}"
    live.execute(statement)
    definitions.append(statement)
    return {}
