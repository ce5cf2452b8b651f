"""Undo a rescue from what it kept: each entry in the other direction, where it was not written to since."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backout.model.database.rescue import LeftOut, RescueReport, TableRescue
from backout.providers.postgres.rescue.kept import read_own_ids
from backout.providers.postgres.rescue.references import is_within, list_tables_losing
from backout.providers.postgres.schema.definition_columns import PARTS
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import name_state_column
from backout.providers.postgres.server.message import get_message, may_pass
from backout.providers.postgres.undo.circles import undo_circle
from backout.providers.postgres.undo.rows import (
    UNDO,
    Entry,
    PutBack,
    find_gone_columns,
    is_there,
    load_batch,
    make_parts,
    put_rows_back,
)
from backout.providers.postgres.undo.tables import TablesTaken, drop, find_staying_tables, stays_with

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.providers.postgres.rescue.kept import Kept
    from backout.providers.postgres.schema.definition_changes import Definitions
    from backout.providers.postgres.server.owner_session import OwnerSessions

_STAYS = "stays"
_NOTHING = PutBack()
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
    ours = read_own_ids(kept.folder.parent, sessions.administrator)
    taking = _Undoing(sessions, kept, entries, ours, defined)
    for number, (entry, content) in enumerate(entries):
        progress("taking the rescue back", number, len(entries))
        taking.take(entry, content)
    taking.take_what_was_held()
    left = {str(entry["table"]): _FORGOTTEN for entry in unknown} | taking.list_left()
    counts = taking.counts()
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
    return RescueReport(tuple(taking.definitions), tables, left_out=tuple(LeftOut(*each) for each in left.items()))


class _Undoing:
    """Takes entries back one by one, and once more those that something held which has gone since.

    Args:
        sessions, kept, defined: as of `undo`.
        entries: what the rescue kept, newest first.
        ours: the ids under which rescues and their undos wrote.
    """

    def __init__(
        self,
        sessions: OwnerSessions,
        kept: Kept,
        entries: Sequence[tuple[Entry, bytes]],
        ours: frozenset[int],
        defined: Callable[[], Definitions],
    ) -> None:
        self.definitions: list[str] = []
        self._live_of = functools.partial(_get_owner_session, sessions)
        self._kept, self._entries, self._ours = kept, entries, ours
        self._made = Made.of(entries)
        stay = find_staying_tables(self._live_of, entries)
        self._whole = TablesTaken(self._live_of, entries, stay, lambda entry: _remains(entry, defined))
        self._done: Counter[tuple[str, str]] = Counter()
        self._changed: dict[int, tuple[str, int]] = {}
        self._held: dict[int, tuple[str, int]] = {}
        self._left: dict[int, dict[str, str]] = {}
        self._together: set[tuple[int, str]] = set()

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how many rows were put back by (table, what the rescue had done), and how many others have changed."""
        whole = self._done.copy()
        for table, rows in self._changed.values():
            whole[table, _STAYS] += rows
        return whole

    def list_left(self) -> dict[str, str]:
        """Return why anything stays as the rescue made it, by what it is."""
        held = Counter[str]()
        for table, rows in self._held.values():
            held[table] += rows
        found = {table: f"{rows:,} rows stay: others refer to them" for table, rows in held.items()}
        return found | {what: why for each in self._left.values() for what, why in each.items()}

    def take(self, entry: Entry, content: bytes) -> None:
        """Take one entry back; what is left of it is noted anew."""
        op, table, live = str(entry["op"]), str(entry["table"]), self._live_of(entry)
        if "circle" in entry:
            if _make_circle_key(entry) not in self._together:
                self._together.add(_make_circle_key(entry))
                whole = [
                    each
                    for each in self._entries
                    if "circle" in each[0] and _make_circle_key(each[0]) == _make_circle_key(entry)
                ]
                gone, why = undo_circle(live, whole, self._kept.note_writer, self._ours)
                self._done.update({(name, "I"): count for name, count in gone.items()})
                self._note(entry, {table: why} if why else {})
        elif op in ("U", "I", "D"):
            if why := _explain_missing(live, entry, self._made):
                self._note(entry, {table: why})
            elif column := self._made.column_of(live, entry):
                self._made.filled[column].append((entry, content))
            else:
                self._put_rows_back(live, entry, content)
        else:
            self._note(entry, _undo_definition(live, entry, self._made, self._whole, self.definitions))

    def _put_rows_back(self, live: Any, entry: Entry, content: bytes) -> None:
        """Put the rows of one batch back; where Postgres refuses that for good, they stay, and the others go on."""
        from psycopg import Error

        table = str(entry["table"])
        try:
            found = put_rows_back(live, entry, content, self._kept, self._ours)
        except Error as error:
            if may_pass(error):
                raise
            self._note(entry, {table: f"rows stay: Postgres refused it: {get_message(error)}"})
            return
        self._done[table, str(entry["op"])] += found.done
        self._note(entry, {}, found)

    def _note(self, entry: Entry, left: dict[str, str], rows: PutBack = _NOTHING) -> None:
        """Note what is left of an entry, and how many of its rows stay, in place of what was noted of it."""
        place, table = id(entry), str(entry["table"])
        self._left.pop(place, None)
        self._changed.pop(place, None)
        self._held.pop(place, None)
        if left:
            self._left[place] = left
        if rows.changed:
            self._changed[place] = table, rows.changed
        if rows.held:
            self._held[place] = table, rows.held

    def take_what_was_held(self) -> None:
        """Take back what stayed, once more, where a definition went behind it.

        A table that was made again goes last, with its foreign keys: until then the rows that it refers to stay, and
        with them the columns in which they have values.
        """
        if not self.definitions:
            return
        places = self._left.keys() | self._changed.keys() | self._held.keys()
        held = [each for each in self._entries if id(each[0]) in places]
        self._together.clear()
        for entry, content in held:
            self.take(entry, content)


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
    filled: defaultdict[tuple[str, str], list[tuple[Entry, bytes]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, entries: Sequence[tuple[Entry, bytes]]) -> Made:
        """Return what these entries made."""
        return cls(
            frozenset(str(entry["sql"]) for entry, _ in entries if entry["op"] == "table"),
            frozenset((str(entry["sql"]), str(entry["column"])) for entry, _ in entries if entry["op"] == "column"),
        )

    def column_of(self, live: Any, entry: Entry) -> tuple[str, str] | None:
        """Return the column that was made again and that a batch gave its values, None for every other batch."""
        values = [name for name in entry["columns"] if name.startswith("n_")]
        if entry["op"] != "U" or len(values) != 1:
            return None
        query = "SELECT to_regclass(%s)::oid = ANY(%s::oid[])"
        for table, column in self.columns:
            if values == [name_state_column("n_", column)]:
                losing = list_tables_losing(live, table, column)
                if live.execute(query, (entry["sql"], losing)).fetchone()[0]:
                    return table, column
        return None


def _explain_missing(live: Any, entry: Entry, made: Made) -> str:
    """Return why the rows of one batch cannot be put back, "" when they can or need not be."""
    table, gone = str(entry["sql"]), find_gone_columns(live, entry)
    if not is_there(live, table):
        return "" if table in made.tables else "the table no longer exists"
    if not gone or any(name in gone and is_within(live, table, parent) for parent, name in made.columns):
        return ""  # what an undo that was killed took away before
    return f"columns no longer exist: {', '.join(sorted(gone))}"


def _make_circle_key(entry: Entry) -> tuple[int, str]:
    """Return what rows that came back together have in common: their tables, and one transaction."""
    return int(entry["circle"]), str(entry.get("transaction", ""))


def _undo_definition(live: Any, entry: Entry, made: Made, whole: TablesTaken, definitions: list[str]) -> dict[str, str]:
    """Take a definition, a table or a column away again; return why it stays, by what it is."""
    if entry["op"] == "column":
        return _undo_column(live, entry, made, definitions)
    if entry["op"] == "table":
        left, name = whole.take(entry["sql"], definitions), entry["sql"]
        return left | ({str(entry["table"]): whole.stay[name]} if name in whole.stay else {})
    if whole.holds(entry):
        return {}
    if with_it := stays_with(entry, whole.stay, made.tables - whole.stay.keys()):
        return {str(entry["table"]): f"stays, for table {with_it} does"}
    why = whole.remains(entry)
    return {} if why is None else why or _undo_other(live, entry, definitions)


def _remains(entry: Entry, defined: Callable[[], Definitions]) -> dict[str, str] | None:
    """Return why a definition remains, {} where it may be taken away, None where that was done."""
    return _explain_changed_since(entry, defined) or (None if _is_undone(entry, defined) else {})


def _explain_changed_since(entry: Entry, defined: Callable[[], Definitions]) -> dict[str, str]:
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


def _is_undone(entry: Entry, defined: Callable[[], Definitions]) -> bool:
    """Whether a part of a table is already as it was before the rescue: an earlier undo did that."""
    if "key" not in entry or entry["key"][0] not in PARTS:
        return False
    now = defined().get(tuple(entry["key"]))
    return _GIVEN.search(entry["drop"]) is None if now is None else bool(now.create == entry["drop"])


def _undo_other(live: Any, entry: Entry, definitions: list[str]) -> dict[str, str]:
    """Take a definition away again, or say why it stays."""
    done, why = drop(live, entry)
    definitions += [entry["drop"]] if done else []
    return {str(entry["table"]): f"stays: {why}"} if why else {}


def _undo_column(live: Any, entry: Entry, made: Made, definitions: list[str]) -> dict[str, str]:
    """Take a column away again, or say why it stays: a view may depend on it by now.

    It is locked before it is looked at: anything written in between would go with it.
    """
    from psycopg import Error

    try:
        with live.transaction():
            if not is_there(live, entry["sql"]):
                return {}
            live.execute(f"LOCK TABLE {entry['sql']} IN ACCESS EXCLUSIVE MODE")
            return _drop_unwritten_column(live, entry, made, definitions)
    except Error as error:
        if may_pass(error):
            raise
        return {str(entry["table"]): f"column {entry['column']} stays: {get_message(error)}"}


def _get_owner_session(sessions: OwnerSessions, entry: Entry) -> Any:
    """Return the session of whose table, or view, an entry is about."""
    query = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = to_regclass(%s)"
    found = sessions.administrator.execute(query, (entry["sql"],)).fetchone() if "sql" in entry else None
    owner = found[0] if found else entry.get("owner")
    return sessions.of(str(owner)) if owner else sessions.administrator


def _drop_unwritten_column(live: Any, entry: Entry, made: Made, definitions: list[str]) -> dict[str, str]:
    """Drop a column that was added again, unless it was written to since.

    Rows that hold neither the default nor what the rescue wrote count as written. A parent's column goes with its own,
    and stays in the heirs that have one of their own.
    """
    name, table = quote_identifier(entry["column"]), entry["sql"]
    query = (
        "SELECT attinhcount > 0, attgenerated <> '' FROM pg_attribute WHERE attrelid = to_regclass(%s) "
        "AND attname = %s AND NOT attisdropped"
    )
    there = live.execute(query, (table, entry["column"])).fetchone()
    if there is None or there[0]:
        return {}
    default = entry["default"]

    def make_condition(value: str) -> str:
        return f"{value} IS NOT NULL" if default is None else f"{value}::text IS DISTINCT FROM ({default})::text"

    query = f"SELECT count(*) FROM {table} WHERE tableoid = ANY(%s::oid[]) AND {make_condition(name)}"
    losing = [] if there[1] else list_tables_losing(live, table, entry["column"])  # nobody writes a generated one
    (count,) = live.execute(query, (losing,)).fetchone()
    for batch, content in made.filled[table, str(entry["column"])]:
        if is_there(live, batch["sql"]):
            load_batch(live, batch, content)
            *_, keys, untouched = make_parts(live, batch)
            joined = f"{UNDO} JOIN ONLY {batch['sql']} l ON {keys} AND {untouched}"
            count -= live.execute(f"SELECT count(*) FROM {joined} WHERE {make_condition('l.' + name)}").fetchone()[0]
            live.execute("DROP TABLE backout_undo")
    if count:
        return {entry["table"]: f"column {entry['column']} stays with its values: {count:,} of them were written since"}
    statement = f"ALTER TABLE {table} DROP COLUMN {name}"
    live.execute(statement)
    definitions.append(statement)
    return {}
