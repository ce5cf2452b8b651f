"""The writes of rescues since the damage, from their records.

Source: PostgreSQL 18, "Transaction ID and Snapshot Information Functions" (pg_xact_status).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import field

from backout.model.value import Value
from backout.providers.postgres.rescue.kept import Kept
from backout.providers.postgres.schema.rowsql import name_state_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from backout.model.database.rescue import Damage

_BEFORE: Final = """
SELECT xid FROM unnest(%s::text[]) AS x(xid) WHERE CASE WHEN xid::xid8 >= pg_snapshot_xmax(pg_current_snapshot())
  THEN false ELSE coalesce(pg_xact_status(xid::xid8) = 'committed', true) END
"""
"""Asked of the side just after the damage, in which nothing is committed that was not by then."""


class Done(Value, frozen=True):
    """One batch of rows that a rescue wrote and committed.

    Args:
        op: `I` for rows that it put back, `U` for rows that it changed.
        columns: of the file `path`, rows as COPY writes them.
    """

    op: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    path: Path

    def written(self) -> Iterator[bytes]:
        """Yield the key of each row, as COPY reads it."""
        prefix = "n_" if self.op == "I" else "o_"
        places = [self.columns.index(name_state_column(prefix, name)) for name in self.key]
        with self.path.open("rb") as file:
            for line in file:
                values = line.rstrip(b"\n").split(b"\t")
                yield b"\t".join(values[place] for place in places)


class Since(Value, frozen=True):
    """The writes of rescues after the damage.

    Args:
        rows: by table's object id.
        tables: that were made again, as SQL.
        drops: the statements that would take away again what else was made.
        away: by a table's object id before the damage, hashes of the keys of rows that a rescue of this damage left
            away, since others had removed them.
        renumbered: by a table's object id, new numbers by old ones that rescues of this damage gave to rows.
        elsewhere: in the same way, old numbers for which a rescue of some of its transactions, or more, gave new ones.
    """

    rows: Mapping[int, tuple[Done, ...]] = field(default_factory=dict)
    tables: frozenset[str] = frozenset()
    drops: frozenset[str] = frozenset()
    away: Mapping[int, frozenset[int]] = field(default_factory=dict)
    renumbered: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    elsewhere: Mapping[int, frozenset[int]] = field(default_factory=dict)


def find_done_since(folder: Path, damage: Damage, after: Any, live: Any) -> Since:
    """Return what rescues wrote after the damage.

    Rows that were put back count whichever damage a rescue was of: they were there after this one. Rows that were
    changed count of a rescue of this damage alone: one of another left what this one did to them. What was undone does
    not count.

    Args:
        folder: in which each rescue has a folder.
        after: the side just after the damage.

    Raises:
        BackoutError: a transaction of a rescue is still under way.
    """
    found: list[tuple[str, dict[str, Any], Path]] = []
    away: dict[int, frozenset[int]] = {}
    rescues = [*map(Kept, sorted(path for path in folder.glob("*") if path.is_dir()))]
    for each in rescues:
        if each.is_undone:
            continue
        ops = {"I", "table", "other"}
        if each.damage == damage.xids:
            ops.add("U")
            away |= {oid: away.get(oid, frozenset()) | hashes for oid, hashes in each.away().items()}
        for entry, path in each.list_committed(live):
            if entry["op"] in ops and "transaction" in entry and not entry.get("filled"):
                found.append((str(entry["transaction"]), entry, path))
    before = {xid for (xid,) in after.execute(_BEFORE, ([xid for xid, *_ in found],)).fetchall()} if found else set()
    rows: dict[int, tuple[Done, ...]] = {}
    tables, drops = set[str](), set[str]()
    for xid, entry, path in found:
        op = str(entry["op"])
        if xid in before:
            continue
        if op == "table":
            tables.add(str(entry["sql"]))
        elif op == "other":
            drops.add(str(entry["drop"]))
        else:
            key, columns = (tuple(map(str, entry[name])) for name in ("key", "columns"))
            rows[int(entry["oid"])] = (*rows.get(int(entry["oid"]), ()), Done(op, key, columns, path))
    return Since(rows, frozenset(tables), frozenset(drops), away, *_read_renumbered(rescues, damage, live))


def _read_renumbered(
    rescues: Sequence[Kept], damage: Damage, live: Any
) -> tuple[dict[int, dict[int, int]], dict[int, frozenset[int]]]:
    """Return the new numbers that rescues of a damage gave, by table's object id, and old ones of other choices.

    Those of a rescue that was undone hold where new ones are given: a row that was written to since has stayed. In
    another choice of transactions the same number may mean another row: these are neither taken over nor given twice.
    """
    known = [(each, each.renumbered(live)) for each in rescues if each.damage & damage.xids]
    elsewhere: dict[int, frozenset[int]] = {}
    for each, tables in known:
        for oid, numbers in tables.items() if each.damage != damage.xids and not each.is_undone else ():
            elsewhere[oid] = elsewhere.get(oid, frozenset()) | numbers.keys()
    found: dict[int, dict[int, int]] = {}
    for each, tables in sorted(known, key=lambda pair: not pair[0].is_undone):
        if each.damage != damage.xids or (each.is_undone and not damage.gives_new_keys):
            continue
        for oid, numbers in tables.items():
            left = elsewhere.get(oid, frozenset()) if each.is_undone else frozenset[int]()
            found.setdefault(oid, {}).update({old: new for old, new in numbers.items() if old not in left})
    return found, elsewhere
