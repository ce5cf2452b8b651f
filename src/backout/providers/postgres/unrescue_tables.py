"""Tables that a rescue made again: which of them stay when it is taken back, and what of theirs stays with them.

A table that somebody has written to since stays whole: without its key, its defaults, its privileges or its policies it
would be worth nothing to whoever uses it, or be open to everybody.

Source: PostgreSQL 18, DROP TABLE (partitions go with their parent, without CASCADE), "pg_inherits".
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_Entry = dict[str, Any]
_NAME: Final = re.compile(r'"((?:[^"]|"")*)"\."((?:[^"]|"")*)"')
_BELOW: Final = """
SELECT format('"%%s"."%%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = to_regclass(%s)
"""


def tables_that_stay(live_of: Callable[[_Entry], Any], entries: Sequence[tuple[_Entry, bytes]]) -> dict[str, str]:
    """Return why tables that were made again stay, by their names as SQL.

    Args:
        live_of: returns the session of whose table an entry is about. entries: what the rescue kept, newest first.
    """
    made = {str(entry["sql"]): entry for entry, _ in reversed(entries) if entry["op"] == "table"}
    found: dict[str, str] = {}
    below: dict[str, list[str]] = {}
    for name, entry in made.items():
        live = live_of(entry)
        if not live.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()[0]:
            continue
        below[name] = [str(child) for (child,) in live.execute(_BELOW, (name,)).fetchall()]
        if why := written_since(live, entry):
            found[name] = why
        elif others := [child for child in below[name] if child not in made]:
            found[name] = f"the table stays: somebody has made {', '.join(others)} below it"
    while parents := [n for n in below if n not in found and any(child in found for child in below[n])]:
        found |= dict.fromkeys(parents, "the table stays: so does one below it")
    return found


def written_since(live: Any, entry: _Entry) -> str:
    """Return that somebody has written to a table since it was made again, "" when nobody has."""
    xid = int(entry["xid"]) % (1 << 32)
    query = f"SELECT count(*) FILTER (WHERE xmin::text = %s), count(*) FROM ONLY {entry['sql']}"
    ours, every = live.execute(query, (str(xid),)).fetchone()
    return "" if ours == every == entry["rows"] else "the table stays: rows were written since"


def drop_table(live: Any, entry: _Entry, definitions: list[str]) -> dict[str, str]:
    """Drop a table that was made again, which is locked, unless somebody has written to it, or hung something on it."""
    below = live.execute(_BELOW, (entry["sql"],)).fetchall()
    why = written_since(live, entry) or ("the table stays: there are others below it" if below else "")
    if why:
        return {entry["table"]: why}
    statement = f"DROP TABLE {entry['sql']}"
    live.execute(statement)
    definitions.append(statement)
    return {}


def stays_with(entry: _Entry, staying: Collection[str], going: Collection[str]) -> str:
    """Return the table, as SQL, with which a definition stays, "" where it goes: what it is about is in its text.

    Args:
        staying, going: tables that were made again, as SQL.
    """
    drop = str(entry["drop"]).rpartition(" DETACH PARTITION ")[2]
    if any(_mentions(drop, name) for name in going):
        return ""
    texts = (drop, *map(str, entry.get("lines", ()) if " DETACH PARTITION " not in str(entry["drop"]) else ()))
    return next((name for name in staying if any(_mentions(text, name) for text in texts)), "")


def _mentions(text: str, table: str) -> bool:
    """Whether SQL of pg_dump's names a table; it quotes names only where they need it."""
    found = _NAME.fullmatch(table)
    if found is None:
        return False
    schema, name = (re.escape(each) for each in found.groups())
    return re.search(rf'(?<![\w$"])"?{schema}"?\."?{name}"?(?![\w$"])', text) is not None
