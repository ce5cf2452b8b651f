"""The rows of one batch of a rescue: put back as they were, where they are as the rescue left them."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from backout.providers.postgres.provenance.evidence import write_as_made
from backout.providers.postgres.rescue.kept import get_kept_key
from backout.providers.postgres.rescue.references import list_unreferenced_conditions, refers_to_itself
from backout.providers.postgres.rescue.writing import lock_table, write_quietly
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import build_key_condition, name_new, name_old, name_state_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.providers.postgres.rescue.kept import Kept

Entry = dict[str, Any]
UNDO: Final = "backout_undo t"
"""The temporary table of a batch that was loaded, with its alias."""


class PutBack(NamedTuple):
    """What became of the rows of one batch, in rows.

    Args:
        done: put back.
        changed: those that stay since others have changed them.
        held: those that stay as the rescue made them, since others refer to them.
    """

    done: int = 0
    changed: int = 0
    held: int = 0


def put_rows_back(live: Any, entry: Entry, content: bytes, kept: Kept, ours: frozenset[int]) -> PutBack:
    """Put the rows of one batch back; a row that is not as the rescue left it was changed by others, and stays."""
    table: str = entry["sql"]
    if not is_there(live, table) or find_gone_columns(live, entry):
        return PutBack()  # an undo that was killed took them away before: behind the rows that stood in them
    after, before, keys, untouched = make_parts(live, entry)
    as_made = "false"
    if entry["op"] == "U":
        assigned = ", ".join(f"{quote_identifier(name)} = t.{name_old(name)}" for name in after)
        apply = f"UPDATE ONLY {table} l SET {assigned} FROM {UNDO} WHERE {keys} AND {untouched}"
    elif entry["op"] == "I":
        as_made = f"{untouched} AND {write_as_made(live, entry, ours | kept.writers)}"
        free = " AND ".join([as_made, *list_unreferenced_conditions(live, entry["oid"])])
        apply = f"DELETE FROM ONLY {table} l USING {UNDO} WHERE {keys} AND {free}"
    else:
        columns = ", ".join(quote_identifier(name) for name in before)
        values = ", ".join(f"t.{name_old(name)}" for name in before)
        apply = (
            f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {UNDO} "
            "ON CONFLICT DO NOTHING"
        )
    with live.transaction():
        load_batch(live, entry, content)
        lock_table(live, entry["oid"], table)
        if entry["op"] == "I":  # what comes to refer to one behind the look would go along with it
            live.execute(f"SELECT FROM ONLY {table} l, {UNDO} WHERE {keys} FOR UPDATE OF l")
        count = found = write_quietly(live, entry["oid"], table, apply, UNDO, wrote=kept.note_writer)
        while found and entry["op"] == "I" and refers_to_itself(live, entry["oid"]):  # leaves first, then theirs
            count += (found := write_quietly(live, entry["oid"], table, apply, UNDO, wrote=kept.note_writer))
        changed, held = live.execute(_select_staying(entry, keys, before, as_made)).fetchone()
        live.execute("DROP TABLE backout_undo")  # the types of its columns may be what is taken away next
        return PutBack(count, changed, held)


def _select_staying(entry: Entry, keys: str, before: Sequence[str], as_made: str) -> str:
    """Return the query that counts the rows of a batch which are not what they were before the rescue.

    Args:
        as_made: the condition that a row which came back is still as the rescue made it; these are counted apart.
    """
    if entry["op"] == "I":
        counts = f"count(*) FILTER (WHERE ({as_made}) IS NOT TRUE), count(*) FILTER (WHERE {as_made})"
        return f"SELECT {counts} FROM {UNDO} JOIN ONLY {entry['sql']} l ON {keys}"
    rows = (
        ", ".join(each) for each in ((f"l.{quote_identifier(n)}" for n in before), (f"t.{name_old(n)}" for n in before))
    )
    alike = "record_image_eq(ROW({}), ROW({}))".format(*rows)
    if entry["op"] == "U":  # one that was deleted since has nothing to put back
        return f"SELECT count(*), 0 FROM {UNDO} JOIN ONLY {entry['sql']} l ON {keys} WHERE NOT {alike}"
    there = f"EXISTS (SELECT FROM ONLY {entry['sql']} l WHERE {keys} AND {alike})"
    return f"SELECT count(*), 0 FROM {UNDO} WHERE NOT {there}"


def make_parts(live: Any, entry: Entry) -> tuple[list[str], list[str], str, str]:
    """Return the columns written, those kept, and the conditions that a row is the kept one, and is untouched."""
    kept, there = set(entry["columns"]), sorted(list_columns(live, entry["sql"]))
    after = [name for name in there if name_state_column("n_", name) in kept]
    before = [name for name in there if name_state_column("o_", name) in kept]
    keys = build_key_condition(get_kept_key(entry), "n_" if entry["op"] == "I" else "o_")
    rows = (
        ", ".join(f"l.{quote_identifier(name)}" for name in after),
        ", ".join(f"t.{name_new(name)}" for name in after),
    )
    return after, before, keys, "record_image_eq(ROW({}), ROW({}))".format(*rows)


def load_batch(live: Any, entry: Entry, content: bytes) -> None:
    """Load one batch into the temporary table, which replaces the one of the batch before."""
    table, there = entry["sql"], list_columns(live, entry["sql"])
    meant = {name_state_column(prefix, name): name for prefix in ("o_", "n_") for name in there}
    columns = ", ".join(f"{quote_identifier(meant[name])} AS {quote_identifier(name)}" for name in entry["columns"])
    live.execute("DROP TABLE IF EXISTS backout_undo")
    live.execute(f"CREATE TEMP TABLE backout_undo AS SELECT {columns} FROM {table} WITH NO DATA")
    with live.cursor().copy("COPY backout_undo FROM STDIN") as copy:
        copy.write(content)
    live.execute("ANALYZE backout_undo")


def is_there(live: Any, table: str) -> bool:
    """Whether a table, as SQL, is there."""
    return bool(live.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()[0])


def list_columns(live: Any, table: str) -> set[str]:
    """Return the names of a table's columns, none where it is not there."""
    query = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
    return {str(name) for (name,) in live.execute(query, (table,)).fetchall()}


def find_gone_columns(live: Any, entry: Entry) -> set[str]:
    """Return the columns that were kept and are not there."""
    there = list_columns(live, entry["sql"])
    known = {name_state_column(prefix, name) for name in there for prefix in ("o_", "n_")}
    return {str(name)[2:] for name in entry["columns"] if name not in known}
