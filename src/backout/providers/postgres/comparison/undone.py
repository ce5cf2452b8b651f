"""The check of a rescue's undo: rows and definitions noted before the rescue and before the undo, and read after it.

A row is identified by the hash of its key and compared by a hash of its content. The transaction that wrote the row
shows who caused a difference: those of the rescue and of its undo are kept.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from array import array
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from backout.errors import Refused
from backout.model.database.comparison import Comparison, TableComparison
from backout.providers.postgres.comparison.dumped import read_definitions
from backout.providers.postgres.comparison.tables import list_relations
from backout.providers.postgres.provenance.packing import pack_numbers, unpack_numbers
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.server.copy_out import read_copy
from backout.providers.postgres.server.message import get_message
from backout.providers.postgres.server.owner_session import OwnerSessions
from backout.providers.postgres.server.plain import write_foreign_code
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    import psycopg

    from backout.providers.postgres.comparison.tables import Relation

ALL_BYTES: Final = 64 << 20
"""How much is noted before a rescue, smallest tables first."""
_SHOWN: Final = 5
_KINDS: Final = ("equal", "newer", "left", "missing", "wrong")
_HALF: Final = 1 << 31
_CHANGED: Final = "changed since by others"
_UNREAD: Final = "it could not be read before the undo"
Rows = dict[int, tuple[int, int]]
"""(the id under which it was written, the hash of what it holds) by the hash of a row's key."""


def note_tables(live: OwnerSessions, tables: Iterable[Relation], xid: int) -> dict[str, Any]:
    """Return what the tables that a rescue may write to hold, and every definition, as a note.

    Args:
        xid: the oldest id under which a transaction may be running.
    """
    room, found = ALL_BYTES, {}
    for table in sorted(tables, key=lambda each: (each.size_bytes, each.shown)):
        room -= table.size_bytes
        told = {"table": table.shown, "columns": [*table.columns], "key": [*table.key], "reason": ""}
        found[str(table.oid)] = {**told, **_note_table(live, table, told, reads=room >= 0)}
    return {"xid": xid, "tables": found, "definitions": read_definitions(live.administrator)}


def note_tables_again(url: str, database: str, held: Mapping[str, Any]) -> dict[str, str]:
    """Return the rows of the tables of a note as they are before the undo, by object id. Raises as `compare_undone`.

    A table that cannot be read is missing there.
    """
    with ExitStack() as stack:
        live, there = _open_live(url, database, stack)
        wanted = {oid: told for oid, told in held["tables"].items() if not told["reason"] and int(oid) in there}
        noted = {oid: _note_rows(live, there[int(oid)], told) for oid, told in wanted.items()}
        return {oid: str(told["rows"]) for oid, told in noted.items() if "rows" in told}


def compare_undone(
    place: tuple[str, str],
    held: Mapping[str, Any],
    before: Mapping[str, str],
    *,
    rescued: Mapping[str, str] | None,
    evidence: tuple[Collection[int], Mapping[str, Mapping[str, int]], Collection[str]],
    progress: Callable[[str, int, int], None],
) -> Comparison:
    """Compare a database after an undo with its state before the rescue.

    Args:
        place: connection string and database.
        before: the rows just before the undo.
        rescued: the definitions just after the rescue, None where they were not noted.
        evidence: the ids under which the rescue and its undo wrote; by object id rows of which the rescue replaced
            a newer version, each with the id of that; and the tables to which the rescue wrote.

    Raises:
        ProviderUnavailable, AuthError: it does not answer, or refuses the login.
    """
    ours, over, wrote = evidence
    found = []
    with ExitStack() as stack:
        live, there = _open_live(*place, stack)
        for number, (oid, told) in enumerate(held["tables"].items()):
            progress("comparing rows", number, len(held["tables"]))
            table = there.get(int(oid))
            has_to_be = told["table"] in wrote
            if told["reason"]:
                failed = has_to_be and told.get("failed") is True
                found.append(TableComparison(told["table"], reason=told["reason"], failed=failed))
            elif table is None:
                found.append(_compare_gone(told, was_there=oid in before))
            elif oid not in before:
                found.append(TableComparison(told["table"], reason=_UNREAD, failed=has_to_be))
            else:
                late = {key for key, xid in over.get(oid, {}).items() if (xid - held["xid"]) % (2 * _HALF) < _HALF}
                found.append(_compare_table(live, table, told, before[oid], (ours, late)))
        behind, changed = _compare_definitions(held["definitions"], rescued, read_definitions(live.administrator))
    return Comparison(tuple(sorted([*found, *changed], key=lambda each: each.table)), tuple(behind))


def _open_live(url: str, database: str, stack: ExitStack) -> tuple[OwnerSessions, dict[int, Relation]]:
    import psycopg

    try:
        live = OwnerSessions(url, database, stack, lock_timeout_s=2.0)
        return live, list_relations(live.administrator)
    except psycopg.Error as error:
        raise make_connection_error(
            error, url, "the second check"
        ) from None  # its text may quote the connection string


def _explain_left_alone(live: OwnerSessions, table: Relation) -> str:
    """Return why a table is not noted, "" when it is."""
    if table.kind != "r" or not table.key:
        return "a rescue writes no row of it" if table.kind != "r" else "without a primary key, a rescue leaves it"
    if live.runs_superusers_code(table.owner):
        (why,) = live.of(table.owner).execute(write_foreign_code(f"{table.oid}::oid")).fetchone() or (None,)
        return "" if why is None else f"a superuser does not run {why}, which belongs to another role"
    return ""


def _note_table(live: OwnerSessions, table: Relation, told: Mapping[str, Any], *, reads: bool) -> dict[str, Any]:
    """Return {rows}, packed, or {reason}; with {failed} where an error came in between."""
    import psycopg

    try:
        why = _explain_left_alone(live, table) or ("" if reads else "for the time that it would take")
    except (psycopg.Error, Refused) as error:
        return {"reason": explain_unread(error), "failed": True}
    return {"reason": why} if why else _note_rows(live, table, told)


def _note_rows(live: OwnerSessions, table: Relation, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return {rows}, packed, or {reason, failed}."""
    import psycopg

    try:
        return {"rows": pack_numbers(_read(live, table, told))}
    except (psycopg.Error, Refused) as error:
        return {"reason": explain_unread(error), "failed": True}


def explain_unread(error: psycopg.Error | Refused) -> str:
    """Return why a table could not be read."""
    return error.what if isinstance(error, Refused) else get_message(error)


def _read(live: OwnerSessions, table: Relation, told: Mapping[str, Any]) -> array[int]:
    key, row = (_write_row(told[name]) for name in ("key", "columns"))
    query = (
        f"COPY (SELECT hashtextextended({key}, 1), t.xmin, hashtextextended({row}, 0) FROM ONLY {table.sql} AS t) "
        "TO STDOUT"
    )
    found = array("q")
    for line in read_copy(live.of(table.owner), query):
        found.extend(map(int, line.split(b"\t")))
    return found


def _unpack_rows(flat: array[int]) -> Rows:
    return {key: (xmin, row) for key, xmin, row in zip(flat[::3], flat[1::3], flat[2::3], strict=True)}


def _compare_table(
    live: OwnerSessions,
    table: Relation,
    told: Mapping[str, Any],
    before: str,
    evidence: tuple[Collection[int], Collection[str]],
) -> TableComparison:
    import psycopg

    ours, late = evidence
    if not set(told["columns"]) <= set(table.columns):
        return TableComparison(told["table"], reason=_CHANGED)
    try:
        now = _unpack_rows(_read(live, table, told))
        forgiven = _hash_keys(live.administrator, late)
        kinds = judge(
            _unpack_rows(unpack_numbers(told["rows"])),
            _unpack_rows(unpack_numbers(before)),
            now,
            frozenset(ours),
            forgiven,
        )
        bad = [key for kind in ("left", "missing", "wrong") for key in kinds.get(kind, ()) if key in now]
        examples = _read_keys(live, table, told, bad)
    except (psycopg.Error, Refused) as error:
        return TableComparison(told["table"], reason=explain_unread(error), failed=True)
    equal, newer, left, missing, wrong = (len(kinds.get(kind, ())) for kind in _KINDS)
    return TableComparison(
        told["table"],
        rows=sum(map(len, kinds.values())),
        equal=equal,
        newer=newer,
        left=left,
        missing=missing,
        wrong=wrong,
        examples=examples,
    )


def judge(noted: Rows, before: Rows, now: Rows, ours: frozenset[int], late: Collection[int]) -> dict[str, list[int]]:
    """Return the rows by their verdicts, as `TableComparison` counts them.

    Args:
        noted: before the rescue; before: just before its undo.
        ours: the ids under which both wrote.
        late: rows written between what was noted and the rescue.
    """
    found: dict[str, list[int]] = {}
    for key in noted.keys() | now.keys():
        found.setdefault(
            _find_kind(noted.get(key), before.get(key), now.get(key), ours, is_late=key in late), []
        ).append(key)
    return found


def _find_kind(
    noted: tuple[int, int] | None,
    before: tuple[int, int] | None,
    now: tuple[int, int] | None,
    ours: frozenset[int],
    *,
    is_late: bool,
) -> str:
    if now is None:
        return "newer" if before is None or is_late else "missing"  # others had removed it before the undo began
    if noted is not None and noted[1] == now[1]:
        return "equal"
    if now[0] not in ours or is_late:
        return "newer"
    if before is not None and before == now:
        return "left"  # the undo did not write it
    # What was written to another column since the rescue stays beside what the undo puts back.
    return "newer" if before is not None and before[0] not in ours else "wrong"


def _compare_gone(told: Mapping[str, Any], *, was_there: bool) -> TableComparison:
    if not was_there:
        return TableComparison(told["table"], reason="dropped since by others")
    rows = len(unpack_numbers(told["rows"])) // 3
    return TableComparison(told["table"], rows, missing=rows, examples=("the table is not there",))


def _compare_definitions(
    noted: Mapping[str, str], rescued: Mapping[str, str] | None, now: Mapping[str, str]
) -> tuple[list[str], list[TableComparison]]:
    """Return what the undo left as the rescue had made it, and what others changed since."""
    differ = sorted(name for name in noted.keys() | now.keys() if noted.get(name) != now.get(name))
    if rescued is None:
        why = "its definition is another one, and what the rescue made was not noted"
        return [], [TableComparison(name, reason=why) for name in differ]
    left = [name for name in differ if rescued.get(name) == now.get(name)]
    words = [f"{name} {'is not as' if name in now and name in noted else _came(name, now)} before" for name in left]
    return words, [TableComparison(name, reason=_CHANGED) for name in differ if name not in left]


def _came(name: str, now: Mapping[str, str]) -> str:
    return "is there, and was not" if name in now else "is not there, and was"


def _hash_keys(live: Any, keys: Collection[str]) -> frozenset[int]:
    """Return what `_read` calls rows of these keys (in hexadecimal)."""
    query = "SELECT hashtextextended(convert_from(decode(k, 'hex'), 'UTF8'), 1) FROM unnest(%s::text[]) AS k"
    return frozenset(int(number) for (number,) in live.execute(query, (sorted(keys),))) if keys else frozenset()


def _read_keys(live: OwnerSessions, table: Relation, told: Mapping[str, Any], hashes: Sequence[int]) -> tuple[str, ...]:
    if not hashes:
        return ()
    key = _write_row(told["key"])
    query = f"SELECT {key} FROM ONLY {table.sql} AS t WHERE hashtextextended({key}, 1) = ANY(%s::int8[])"
    found = live.of(table.owner).execute(f"{query} ORDER BY 1 LIMIT {_SHOWN}".encode(), ([*hashes],))
    return tuple(sorted(str(text)[1:-1] for (text,) in found))


def _write_row(names: Sequence[str]) -> str:
    return f"ROW({', '.join(f't.{quote_identifier(name)}' for name in names)})::text"
