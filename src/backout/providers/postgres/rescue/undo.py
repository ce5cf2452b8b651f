"""Undo a rescue from what it kept: each entry in the other direction, where it was not written to since."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backout.model.database.rescue import LeftOut, RescueReport, TableRescue
from backout.providers.postgres.provenance.evidence import as_made
from backout.providers.postgres.rescue.kept import key_kept, written_by_us
from backout.providers.postgres.rescue.references import is_within, list_unreferenced_conditions, refers_to_itself
from backout.providers.postgres.rescue.undo_circles import undo_circle
from backout.providers.postgres.rescue.undo_tables import TablesTaken, drop, stays_with, tables_that_stay
from backout.providers.postgres.rescue.writing import hold, quietly
from backout.providers.postgres.schema.definition_columns import PARTS
from backout.providers.postgres.schema.quoting import identifier
from backout.providers.postgres.schema.rowsql import build_key_condition, name_state_column, new, old
from backout.providers.postgres.server.message import message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.providers.postgres.rescue.kept import Kept
    from backout.providers.postgres.schema.definition_changes import Definitions
    from backout.providers.postgres.server.owner_session import OwnerSessions

_Entry = dict[str, Any]
_UNDO = "backout_undo t"
_STAYS = "stays"
_GIVEN = re.compile(r" SET (DEFAULT |NOT NULL)")
_FORGOTTEN = "stays: the server has forgotten whether the transaction that made it was committed"


def undo(
    sessions: OwnerSessions,
    kept: Kept,
    progress: Callable[[str, int, int], None],
    defined: Callable[[], Definitions],
) -> RescueReport:
    """Put everything back, newest first; what is as it was already is left.

    Args:
        sessions: with the live database.
        kept: what the rescue kept.
        defined: returns the live definitions.

    Raises:
        BackoutError: a transaction of the rescue is still under way.
    """
    kept.note_undone()
    kept.settle(sessions.administrator)
    entries, unknown = kept.entries(sessions.administrator)
    ours = written_by_us(kept.folder.parent, sessions.administrator)
    made = Made.of(entries)
    stay = tables_that_stay(lambda entry: _of_owner(sessions, entry), entries)
    counts: Counter[tuple[str, str]] = Counter()
    left: dict[str, str] = {str(entry["table"]): _FORGOTTEN for entry in unknown}
    definitions: list[str] = []
    together: set[tuple[int, str]] = set()
    whole_tables = TablesTaken(lambda entry: _of_owner(sessions, entry), entries, stay, lambda e: _remains(e, defined))
    for number, (entry, content) in enumerate(entries):
        progress("taking the rescue back", number, len(entries))
        op, table = str(entry["op"]), str(entry["table"])
        live = _of_owner(sessions, entry)
        if "circle" in entry:
            if _circle(entry) not in together:
                together.add(_circle(entry))
                whole = [each for each in entries if "circle" in each[0] and _circle(each[0]) == _circle(entry)]
                gone, why = undo_circle(live, whole, kept.note_writer, ours)
                counts.update({(name, "I"): count for name, count in gone.items()})
                left |= {table: why} if why else {}
        elif op in ("U", "I", "D"):
            if why := _missing(live, entry, made):
                left[table] = why
            elif column := made.column_of(live, entry):
                made.filled[column].append((entry, content))
            else:
                done, stay_back = _rows(live, entry, content, kept, ours)
                counts[table, op] += done
                counts[table, _STAYS] += stay_back
        else:
            left |= _definition(live, entry, made, whole_tables, definitions)
    names = dict.fromkeys([*(table for table, _ in counts), *left])
    tables = tuple(
        TableRescue(
            name,
            updated=counts[name, "U"],
            inserted=counts[name, "D"],
            deleted=counts[name, "I"],
            conflicts=counts[name, _STAYS],
            left=left.get(name, ""),
        )
        for name in names
    )
    return RescueReport(tuple(definitions), tables, left_out=tuple(LeftOut(*each) for each in left.items()))


@dataclass
class Made:
    """What the rescue created and the undo drops whole, so that none of its rows need to be put back.

    Args:
        tables: their names as SQL.
        columns: (table, column).
        filled: the batches of values that a column was given, in its table or in those below it.
    """

    tables: frozenset[str]
    columns: frozenset[tuple[str, str]]
    filled: defaultdict[tuple[str, str], list[tuple[_Entry, bytes]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, entries: Sequence[tuple[_Entry, bytes]]) -> Made:
        """Return what these entries made."""
        return cls(
            frozenset(str(entry["sql"]) for entry, _ in entries if entry["op"] == "table"),
            frozenset((str(entry["sql"]), str(entry["column"])) for entry, _ in entries if entry["op"] == "column"),
        )

    def column_of(self, live: Any, entry: _Entry) -> tuple[str, str] | None:
        """Return the column that was made again and that a batch gave its values, None for every other batch."""
        values = [name for name in entry["columns"] if name.startswith("n_")]
        if entry["op"] != "U" or len(values) != 1:
            return None
        for table, column in self.columns:
            if values == [name_state_column("n_", column)] and is_within(live, str(entry["sql"]), table):
                return table, column
        return None


def _missing(live: Any, entry: _Entry, made: Made) -> str:
    """Return why the rows of one batch cannot be put back, "" when they can or need not be."""
    table, gone = str(entry["sql"]), _gone(live, entry)
    if not _exists(live, table):
        return "" if table in made.tables else "the table no longer exists"
    if not gone or any((table, name) in made.columns for name in gone):
        return ""  # what an undo that was killed took away before
    return f"columns no longer exist: {', '.join(sorted(gone))}"


def _gone(live: Any, entry: _Entry) -> set[str]:
    """Return the columns that were kept and are not there."""
    there = _columns(live, entry["sql"])
    known = {name_state_column(prefix, name) for name in there for prefix in ("o_", "n_")}
    return {str(name)[2:] for name in entry["columns"] if name not in known}


def _circle(entry: _Entry) -> tuple[int, str]:
    """Return what rows that came back together have in common: their tables, and one transaction."""
    return int(entry["circle"]), str(entry.get("transaction", ""))


def _rows(live: Any, entry: _Entry, content: bytes, kept: Kept, ours: frozenset[int]) -> tuple[int, int]:
    """Put the rows of one batch back; a row that is not as the rescue left it was changed by others, and stays.

    Returns:
        How many were put back, and how many stay.
    """
    table: str = entry["sql"]
    if not _exists(live, table) or _gone(live, entry):
        return 0, 0  # an undo that was killed took them away before: behind the rows that stood in them
    after, before, keys, untouched = _parts(live, entry)
    if entry["op"] == "U":
        assigned = ", ".join(f"{identifier(name)} = t.{old(name)}" for name in after)
        apply = f"UPDATE ONLY {table} l SET {assigned} FROM {_UNDO} WHERE {keys} AND {untouched}"
    elif entry["op"] == "I":
        free = " AND ".join(
            [untouched, as_made(live, entry, ours | kept.writers), *list_unreferenced_conditions(live, entry["oid"])]
        )
        apply = f"DELETE FROM ONLY {table} l USING {_UNDO} WHERE {keys} AND {free}"
    else:
        columns = ", ".join(identifier(name) for name in before)
        values = ", ".join(f"t.{old(name)}" for name in before)
        apply = (
            f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {_UNDO} "
            "ON CONFLICT DO NOTHING"
        )
    with live.transaction():
        _load(live, entry, content)
        hold(live, entry["oid"], table)
        if entry["op"] == "I":  # what comes to refer to one behind the look would go along with it
            live.execute(f"SELECT FROM ONLY {table} l, {_UNDO} WHERE {keys} FOR UPDATE OF l")
        count = found = quietly(live, entry["oid"], table, apply, _UNDO, wrote=kept.note_writer)
        while found and entry["op"] == "I" and refers_to_itself(live, entry["oid"]):  # leaves first, then theirs
            count += (found := quietly(live, entry["oid"], table, apply, _UNDO, wrote=kept.note_writer))
        (stay,) = live.execute(_staying(entry, keys, before)).fetchone()
        live.execute("DROP TABLE backout_undo")  # the types of its columns may be what is taken away next
        return count, stay


def _staying(entry: _Entry, keys: str, before: Sequence[str]) -> str:
    """Return the query that counts the rows of a batch which are not what they were before the rescue."""
    if entry["op"] == "I":
        return f"SELECT count(*) FROM {_UNDO} JOIN ONLY {entry['sql']} l ON {keys}"
    rows = (", ".join(each) for each in ((f"l.{identifier(n)}" for n in before), (f"t.{old(n)}" for n in before)))
    alike = "record_image_eq(ROW({}), ROW({}))".format(*rows)
    if entry["op"] == "U":  # one that was deleted since has nothing to put back
        return f"SELECT count(*) FROM {_UNDO} JOIN ONLY {entry['sql']} l ON {keys} WHERE NOT {alike}"
    there = f"EXISTS (SELECT FROM ONLY {entry['sql']} l WHERE {keys} AND {alike})"
    return f"SELECT count(*) FROM {_UNDO} WHERE NOT {there}"


def _parts(live: Any, entry: _Entry) -> tuple[list[str], list[str], str, str]:
    """Return the columns written, those kept, and the conditions that a row is the kept one, and is untouched."""
    kept, there = set(entry["columns"]), sorted(_columns(live, entry["sql"]))
    after = [name for name in there if name_state_column("n_", name) in kept]
    before = [name for name in there if name_state_column("o_", name) in kept]
    keys = build_key_condition(key_kept(entry), "n_" if entry["op"] == "I" else "o_")
    rows = ", ".join(f"l.{identifier(name)}" for name in after), ", ".join(f"t.{new(name)}" for name in after)
    return after, before, keys, "record_image_eq(ROW({}), ROW({}))".format(*rows)


def _definition(live: Any, entry: _Entry, made: Made, whole: TablesTaken, definitions: list[str]) -> dict[str, str]:
    """Take a definition, a table or a column away again; return why it stays, by what it is."""
    if entry["op"] == "column":
        return _column_again(live, entry, made, definitions)
    if entry["op"] == "table":
        left, name = whole.take(entry["sql"], definitions), entry["sql"]
        return left | ({str(entry["table"]): whole.stay[name]} if name in whole.stay else {})
    if whole.holds(entry):
        return {}
    if with_it := stays_with(entry, whole.stay, made.tables - whole.stay.keys()):
        return {str(entry["table"]): f"stays, for table {with_it} does"}
    why = whole.remains(entry)
    return {} if why is None else why or _other(live, entry, definitions)


def _remains(entry: _Entry, defined: Callable[[], Definitions]) -> dict[str, str] | None:
    """Return why a definition remains, {} where it may be taken away, None where that was done."""
    return _explain_changed_since(entry, defined) or (None if _is_undone(entry, defined) else {})


def _explain_changed_since(entry: _Entry, defined: Callable[[], Definitions]) -> dict[str, str]:
    """Return that a definition stays because it was changed after the rescue; nothing when it was not."""
    if "key" not in entry:
        return {}
    now = defined().get(tuple(entry["key"]))
    if now is None:  # what was taken away since is not given back
        is_given = entry["key"][0] in PARTS and _GIVEN.search(entry["drop"])
        return {str(entry["table"]): "stays away: it was dropped since"} if is_given else {}
    if list(now.lines) == entry["lines"] or _is_undone(entry, defined):
        return {}
    return {str(entry["table"]): "stays: it was changed since"}


def _is_undone(entry: _Entry, defined: Callable[[], Definitions]) -> bool:
    """Whether a part of a table is already as it was before the rescue: an earlier undo did that."""
    if "key" not in entry or entry["key"][0] not in PARTS:
        return False
    now = defined().get(tuple(entry["key"]))
    return _GIVEN.search(entry["drop"]) is None if now is None else bool(now.create == entry["drop"])


def _other(live: Any, entry: _Entry, definitions: list[str]) -> dict[str, str]:
    """Take a definition away again, or say why it stays."""
    done, why = drop(live, entry)
    definitions += [entry["drop"]] if done else []
    return {str(entry["table"]): f"stays: {why}"} if why else {}


def _column_again(live: Any, entry: _Entry, made: Made, definitions: list[str]) -> dict[str, str]:
    """Take a column away again, or say why it stays: a view may depend on it by now.

    It is locked before it is looked at: anything written in between would go with it.
    """
    from psycopg import Error, OperationalError

    try:
        with live.transaction():
            if not _exists(live, entry["sql"]):
                return {}
            live.execute(f"LOCK TABLE {entry['sql']} IN ACCESS EXCLUSIVE MODE")
            return _column(live, entry, made, definitions)
    except OperationalError:
        raise
    except Error as error:
        return {str(entry["table"]): f"column {entry['column']} stays: {message_of(error)}"}


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


def _load(live: Any, entry: _Entry, content: bytes) -> None:
    table, there = entry["sql"], _columns(live, entry["sql"])
    meant = {name_state_column(prefix, name): name for prefix in ("o_", "n_") for name in there}
    columns = ", ".join(f"{identifier(meant[name])} AS {identifier(name)}" for name in entry["columns"])
    live.execute("DROP TABLE IF EXISTS backout_undo")
    live.execute(f"CREATE TEMP TABLE backout_undo AS SELECT {columns} FROM {table} WITH NO DATA")
    with live.cursor().copy("COPY backout_undo FROM STDIN") as copy:
        copy.write(content)
    live.execute("ANALYZE backout_undo")


def _column(live: Any, entry: _Entry, made: Made, definitions: list[str]) -> dict[str, str]:
    """Drop a column that was added again, unless it was written to since.

    Rows that hold neither the default nor what the rescue wrote count as written. A parent's column goes with its own.
    """
    name, table = identifier(entry["column"]), entry["sql"]
    query = (
        "SELECT attinhcount > 0 FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s "
        "AND NOT attisdropped"
    )
    there = live.execute(query, (table, entry["column"])).fetchone()
    if there is None or there[0]:
        return {}
    default = entry["default"]

    def make_condition(value: str) -> str:
        return f"{value} IS NOT NULL" if default is None else f"{value}::text IS DISTINCT FROM ({default})::text"

    (count,) = live.execute(f"SELECT count(*) FROM {table} WHERE {make_condition(name)}").fetchone()
    for batch, content in made.filled[table, str(entry["column"])]:
        if _exists(live, batch["sql"]):
            _load(live, batch, content)
            *_, keys, untouched = _parts(live, batch)
            joined = f"{_UNDO} JOIN ONLY {batch['sql']} l ON {keys} AND {untouched}"
            count -= live.execute(f"SELECT count(*) FROM {joined} WHERE {make_condition('l.' + name)}").fetchone()[0]
            live.execute("DROP TABLE backout_undo")
    if count:
        return {entry["table"]: f"column {entry['column']} stays with its values: {count:,} of them were written since"}
    statement = f"ALTER TABLE {table} DROP COLUMN {name}"
    live.execute(statement)
    definitions.append(statement)
    return {}
