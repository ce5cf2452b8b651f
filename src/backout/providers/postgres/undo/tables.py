"""Tables that a rescue made again: which of them stay on an undo, and what stays with them.

A table that was written to since stays whole: without its key, its defaults, its privileges or its policies it would
be useless to its users, or open to every role.

Source: PostgreSQL 18, LOCK, DROP TABLE (partitions go with their parent, without CASCADE), "pg_inherits".
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.server.message import get_message, may_pass
from backout.providers.postgres.undo.rows import Entry, is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_NAME: Final = re.compile(r'"((?:[^"]|"")*)"\."((?:[^"]|"")*)"')
_BELOW: Final = """
SELECT format('"%%s"."%%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = to_regclass(%s)
"""


def find_staying_tables(live_of: Callable[[Entry], Any], entries: Sequence[tuple[Entry, bytes]]) -> dict[str, str]:
    """Return why tables that were made again stay, by their names as SQL.

    Args:
        live_of: returns the session of whose table an entry is about.
        entries: what the rescue kept, newest first.
    """
    made = {str(entry["sql"]): entry for entry, _ in reversed(entries) if entry["op"] == "table"}
    found: dict[str, str] = {}
    below: dict[str, list[str]] = {}
    for name, entry in made.items():
        live = live_of(entry)
        if not is_there(live, entry["sql"]):
            continue
        below[name] = [str(child) for (child,) in live.execute(_BELOW, (name,)).fetchall()]
        if why := explain_written_since(live, entry):
            found[name] = why
        elif others := [child for child in below[name] if child not in made]:
            found[name] = f"the table stays: tables were made below it since: {', '.join(others)}"
    while parents := [n for n in below if n not in found and any(child in found for child in below[n])]:
        found |= dict.fromkeys(parents, "the table stays: so does one below it")
    return found


def explain_written_since(live: Any, entry: Entry) -> str:
    """Return that a table was written to since it was made again, "" when it was not."""
    xid = int(entry["xid"]) % (1 << 32)
    query = f"SELECT count(*) FILTER (WHERE xmin::text = %s), count(*) FROM ONLY {entry['sql']}"
    ours, every = live.execute(query, (str(xid),)).fetchone()
    return "" if ours == every == entry["rows"] else "the table stays: rows were written since"


class TablesTaken:
    """Drops tables that were made again, each owner's in one transaction with all dependents.

    They are looked at once more when they are locked: one that was written to since the first look stays, and stays
    whole, for until then nothing of it was taken away.

    Args:
        live_of, entries: as of `find_staying_tables`.
        stay: what that returned; what is found to stay is put into it.
        remains: returns why a definition remains whatever happens to its table; None where it is already undone.
    """

    def __init__(
        self,
        live_of: Callable[[Entry], Any],
        entries: Sequence[tuple[Entry, bytes]],
        stay: dict[str, str],
        remains: Callable[[Entry], dict[str, str] | None],
    ) -> None:
        self._live_of = live_of
        self._entries = entries
        self.stay = stay
        self.remains = remains
        self._tables = [entry for entry, _ in entries if entry["op"] == "table" and entry["sql"] not in stay]
        there = [each for each in self._tables if is_there(live_of(each), each["sql"])]
        self._sessions = {str(each["sql"]): live_of(each) for each in there}
        self._hanging = [entry for entry, _ in entries if entry["op"] == "other" and self._hangs(entry)]

    def holds(self, entry: Entry) -> bool:
        """Whether a definition is taken away by `take`, or stays with its table."""
        return any(each is entry for each in self._hanging)

    def take(self, table: str, definitions: list[str]) -> dict[str, str]:
        """Take away a table that may go, with all of its owner's; return why anything stays, by what it is.

        Args:
            table: as SQL.
            definitions: to which the statements are added.
        """
        from psycopg import Error

        live = self._sessions.get(table)
        if live is None:  # it went with others
            return {}
        others, left = [], dict[str, str]()
        for entry in (each for each in self._hanging if self._live_of(each) is live):
            if (why := self.remains(entry)) == {}:
                others.append(entry)
            left |= why or {}
        while tables := [each for each in self._tables if self._goes(each, live)]:
            doing = [""]
            try:
                with live.transaction():
                    done, more = self._take_all(live, tables, others, doing)
            except Error as error:
                if may_pass(error) or not doing[0]:
                    raise
                self.stay[doing[0]] = f"the table stays: {get_message(error)}"
                continue
            definitions += done
            left |= more
            break
        else:
            left |= {str(each["table"]): f"stays, for table {stays_with(each, self.stay, ())} does" for each in others}
        self._sessions = {name: each for name, each in self._sessions.items() if each is not live}
        return left

    def _hangs(self, entry: Entry) -> bool:
        live = self._live_of(entry)
        return any(session is live and _is_about(entry, name) for name, session in self._sessions.items())

    def _goes(self, table: Entry, live: Any) -> bool:
        return self._sessions.get(str(table["sql"])) is live and table["sql"] not in self.stay

    def _take_all(
        self, live: Any, tables: list[Entry], others: list[Entry], doing: list[str]
    ) -> tuple[list[str], dict[str, str]]:
        """Take them away, within a transaction; `doing` names the table that could not be dropped."""
        for each in tables:
            doing[0] = str(each["sql"])
            live.execute(f"LOCK TABLE {each['sql']} IN ACCESS EXCLUSIVE MODE")
        doing[0] = ""
        self.stay.update(find_staying_tables(self._live_of, [each for each in self._entries if each[0] in tables]))
        going = [str(each["sql"]) for each in tables if each["sql"] not in self.stay]
        done: list[str] = []
        left: dict[str, str] = {}
        for entry in others:
            if with_it := stays_with(entry, self.stay, going):
                left[str(entry["table"])] = f"stays, for table {with_it} does"
                continue
            is_done, why = drop(live, entry)
            done += [entry["drop"]] if is_done else []
            left |= {str(entry["table"]): f"stays: {why}"} if why else {}
        for doing[0] in (each for each in going if is_there(live, each)):
            live.execute(f"DROP TABLE {doing[0]}")
            done.append(f"DROP TABLE {doing[0]}")
        doing[0] = ""
        return done, left


def drop(live: Any, entry: Entry) -> tuple[bool, str]:
    """Take a definition away: whether that was done, and why it could not be; that it is gone is what is wanted."""
    from psycopg import Error, errors

    gone = (errors.UndefinedTable, errors.UndefinedObject, errors.UndefinedFunction, errors.UndefinedColumn)
    try:
        with live.transaction():
            live.execute(entry["drop"])
    except (*gone, errors.InvalidSchemaName):
        return False, ""
    except Error as error:
        if may_pass(error):
            raise
        return False, get_message(error)
    return True, ""


def stays_with(entry: Entry, staying: Collection[str], going: Collection[str]) -> str:
    """Return the table, as SQL, with which a definition stays, "" where it goes: what it is about is in its text.

    Args:
        staying, going: tables that were made again, as SQL.
    """
    if any(_mentions(_strip_detach(entry), name) for name in going):
        return ""
    return next((name for name in staying if _is_about(entry, name)), "")


def _strip_detach(entry: Entry) -> str:
    return str(entry["drop"]).rpartition(" DETACH PARTITION ")[2]


def _is_about(entry: Entry, table: str) -> bool:
    """Whether a definition is one of a table's, or names it."""
    lines = () if " DETACH PARTITION " in str(entry["drop"]) else entry.get("lines", ())
    return any(_mentions(text, table) for text in (_strip_detach(entry), *map(str, lines)))


def _mentions(text: str, table: str) -> bool:
    """Whether SQL of pg_dump's names a table; it quotes names only where they need it."""
    found = _NAME.fullmatch(table)
    if found is None:
        return False
    schema, name = (re.escape(each) for each in found.groups())
    return re.search(rf'(?<![\w$"])"?{schema}"?\."?{name}"?(?![\w$"])', text) is not None
