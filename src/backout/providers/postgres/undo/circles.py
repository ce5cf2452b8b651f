"""Rows that a rescue brought back together because they need each other are removed together or stay together."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backout.providers.postgres.provenance.evidence import write_as_made
from backout.providers.postgres.rescue.circles import Deferred, list_foreign_keys
from backout.providers.postgres.rescue.kept import get_kept_key
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import build_key_condition, equals, name_new, name_state_column

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from backout.providers.postgres.rescue.circles import ForeignKey

_Entry = dict[str, Any]


class _TheyStay(Exception):
    """Why the rows of a circle are not removed."""


def undo_circle(
    live: Any, entries: Sequence[tuple[_Entry, bytes]], wrote: Callable[[Any], None], ours: Collection[int]
) -> tuple[dict[str, int], str]:
    """Delete them in one transaction; return how many of each table, and why they stay, "" when they do not.

    They stay where one was changed since or is referred to: a cascade would delete the newer rows as well.

    Args:
        wrote: told after the write, in its transaction.
        ours: the ids under which rescues and their undos wrote.
    """
    members = {int(entry["oid"]): entry for entry, _ in entries}
    keys = [key for key in list_foreign_keys(live, sorted(members)) if key.parent in members]
    counts: dict[str, int] = {}
    try:
        with live.transaction():
            tables = {oid: str(entry["sql"]) for oid, entry in members.items()}
            deferred = Deferred(live, [key for key in keys if key.child in members], tables)
            deferred.begin()
            for entry, content in entries:
                _load(live, entry, content, ours)
            for entry in members.values():  # a row that comes to refer to one after the check waits for its end
                here = build_key_condition(get_kept_key(entry), "n_")
                live.execute(f"SELECT FROM ONLY {entry['sql']} l, {_get_rows(entry)} t WHERE {here} FOR UPDATE OF l")
            for key in keys:
                _refuse_newer(live, key, members)
            for entry in members.values():
                here = build_key_condition(get_kept_key(entry), "n_")
                gone = live.execute(f"DELETE FROM ONLY {entry['sql']} l USING {_get_rows(entry)} t WHERE {here}")
                counts[str(entry["table"])] = int(gone.rowcount)
            wrote(live)
            deferred.end()
    except _TheyStay as why:
        return {}, str(why)
    return counts, ""


def _get_rows(entry: _Entry) -> str:
    return f"backout_undo_{int(entry['oid'])}"


def _load(live: Any, entry: _Entry, content: bytes, ours: Collection[int]) -> None:
    """Load what was inserted. Raises _TheyStay: some of it was changed since."""
    query = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
    there = [str(name) for (name,) in live.execute(query, (entry["sql"],)).fetchall()]
    meant = {name_state_column("n_", name): name for name in there}
    names = [(meant[name], name) for name in entry["columns"] if name in meant]
    if len(names) < len(entry["columns"]):
        raise _TheyStay("columns of it no longer exist")
    columns = ", ".join(f"{quote_identifier(column)} AS {quote_identifier(name)}" for column, name in names)
    rows, here = _get_rows(entry), build_key_condition(get_kept_key(entry), "n_")
    live.execute(f"CREATE TEMP TABLE {rows} ON COMMIT DROP AS SELECT {columns} FROM {entry['sql']} WITH NO DATA")
    with live.cursor().copy(f"COPY {rows} FROM STDIN") as copy:
        copy.write(content)
    live.execute(f"DELETE FROM {rows} t WHERE NOT EXISTS (SELECT FROM ONLY {entry['sql']} l WHERE {here})")
    here_now, made = (
        ", ".join(each)
        for each in zip(*((f"l.{quote_identifier(c)}", f"t.{name_new(c)}") for c, _ in names), strict=True)
    )
    (touched,) = live.execute(
        f"SELECT count(*) FROM {rows} t JOIN ONLY {entry['sql']} l ON {here} "
        f"WHERE NOT (record_image_eq(ROW({here_now}), ROW({made})) AND {write_as_made(live, entry, ours)})"
    ).fetchone()
    if touched:
        raise _TheyStay(f"{touched:,} rows of {entry['table']}, which need others of their circle, were written since")


def _refuse_newer(live: Any, key: ForeignKey, members: dict[int, _Entry]) -> None:
    """Raise _TheyStay where a row that does not go refers to one that goes."""
    parent, others = members[key.parent], "true"
    if key.child in members:
        child = members[key.child]
        pairs = " AND ".join(
            f"x.{quote_identifier(name)} {equals(name)} m.{name_new(name)}" for name in get_kept_key(child)
        )
        others = f"NOT EXISTS (SELECT FROM {_get_rows(child)} m WHERE {pairs})"
    (held,) = live.execute(
        f"SELECT count(*) FROM {key.child_rows} x JOIN {key.parent_rows} l ON {key.matches('x', 'l')} "
        f"JOIN {_get_rows(parent)} t ON {build_key_condition(parent['key'], 'n_')} WHERE {others}"
    ).fetchone()
    if held:
        raise _TheyStay(f"{held:,} newer rows of {key.child_sql} refer to rows of {parent['table']}")
