"""The tables at one end, and the SQL that hashes their rows on the server.

Each value is hashed as Postgres itself prints it within a row (`ROW(value)::text`): that uses the type's own output
function and never a cast, which the application could have defined. The settings that change how values print are
pinned at both ends.

Source: PostgreSQL 18, "Composite Type Input and Output Syntax", "System Columns", "Bit String and Hash Functions".
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import field

from backout.model.value import Value
from backout.providers.postgres.schema.quoting import quote_identifier, quote_literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_USER: Final = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_TABLES: Final = f"""
SELECT c.oid::bigint, n.nspname, c.relname, pg_get_userbyid(c.relowner)::text, c.relkind::text,
  c.relpersistence::text, coalesce(pg_relation_filenode(c.oid), 0)::bigint,
  coalesce(pg_relation_filenode(nullif(c.reltoastrelid, 0)), 0)::bigint, coalesce(pg_relation_size(c.oid), 0)::bigint,
  coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid
    AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'), '{{}}'),
  coalesce((SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i, unnest(i.indkey) WITH ORDINALITY
    AS k(number, place) JOIN pg_attribute a ON a.attnum = k.number WHERE i.indrelid = c.oid AND i.indisprimary
    AND a.attrelid = c.oid), '{{}}')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {_USER} ORDER BY n.nspname, c.relname
"""
_SEQUENCES: Final = f"""
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), s.seqincrement, s.seqcycle, pg_sequence_last_value(c.oid)
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_USER}
"""
BUCKETS: Final = 1024
_LOGGED_AHEAD: Final = 32
"""How many numbers ahead a sequence is where WAL was replayed (SEQ_LOG_VALS)."""


class Relation(Value, frozen=True):
    """A table or materialized view at one end; `nodes` are its own file's number and its TOAST table's."""

    oid: int
    schema: str
    name: str
    owner: str
    kind: str
    persistence: str
    nodes: frozenset[int]
    size_bytes: int
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def sql(self) -> str:
        """Its name as SQL."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"

    @property
    def shown(self) -> str:
        """Its name as a person types it."""
        return f"{self.schema}.{self.name}"


def list_relations(connection: Any) -> dict[int, Relation]:
    """Return the tables and materialized views of a database by object id."""
    found = {}
    for oid, schema, name, owner, kind, persistence, node, toast, size, columns, key in connection.execute(_TABLES):
        nodes = frozenset({node, toast} - {0})
        made = Relation(oid, schema, name, owner, kind, persistence, nodes, size, tuple(columns), tuple(key))
        found[oid] = made
    return found


def list_sequences_behind(before: Any, after: Any, now: Any) -> list[str]:
    """Return the sequences that the damage set back and that still are: their numbers would be handed out again."""
    stood, left = ({oid: last for oid, _, _, _, last in each.execute(_SEQUENCES)} for each in (before, after))
    found = []
    for oid, name, step, cycles, last in now.execute(_SEQUENCES):
        then, harmed = stood.get(oid), left.get(oid)
        set_back = then is not None and oid in left and (harmed is None or (harmed - then) * step < 0)
        if not set_back or cycles or (last is not None and (last - then) * step >= -_LOGGED_AHEAD * step * step):
            continue
        found.append(f"sequence {name} stands at {'its start' if last is None else last}, before the damage at {then}")
    return found


class Reading(Value, frozen=True):
    """How the rows of one table are read at one end.

    Args:
        key: the columns that identify a row; () where only all of its values do.
        columns: those that are compared; `there`: which of them this end has.
        renumbered: those in which other numbers are read in the place of some, each with {old: new} as JSON.
    """

    table: Relation
    key: tuple[str, ...]
    columns: tuple[str, ...]
    there: frozenset[str]
    renumbered: Mapping[str, str] = field(default_factory=dict)

    def sums(self, where: str) -> str:
        """Return the query for (bucket, rows, two sums of hashes) over the rows of a condition on `t`."""
        return (
            f"SELECT bucket, count(*), bit_xor(hash), sum(hash)::text FROM (SELECT {self._bucket()} AS bucket, "
            f"hashtextextended({self._row([name for name in self.columns if name in self.there])}, 0) AS hash "
            f"FROM ONLY {self.table.sql} AS t WHERE {where}) AS rows GROUP BY bucket"
        )

    def rows(self, where: str = "true") -> str:
        """Return the query, as COPY takes it, for (key, xmin, a hash by column) of the rows of a condition on `t`."""
        hashes = ", ".join(self._hash(name) for name in self.columns)
        key = f"{self._row(self.key)}" if self.key else f"{self._whole()} || '#' || row_number() OVER ({self._same()})"
        return (
            f"SELECT encode(convert_to({key}, 'UTF8'), 'hex'), t.xmin, ARRAY[{hashes}]::int8[] "
            f"FROM ONLY {self.table.sql} AS t WHERE {where}"
        )

    def keys(self, where: str) -> str:
        """Return the query for a hash of the key of each row of a condition on `t`."""
        told = self._row(self.key) if self.key else self._row([name for name in self.columns if name in self.there])
        return f"SELECT hashtextextended({told}, 1) FROM ONLY {self.table.sql} AS t WHERE {where}"

    def in_buckets(self, buckets: Sequence[int]) -> str:
        """Return the condition that a row is in one of these buckets."""
        return f"{self._bucket()} = ANY('{{{','.join(map(str, buckets))}}}'::int8[])"

    def _bucket(self) -> str:
        told = self._row(self.key) if self.key else self._row([name for name in self.columns if name in self.there])
        return f"(hashtextextended({told}, 1) & {BUCKETS - 1})"

    def _whole(self) -> str:
        return f"md5({self._row([name for name in self.columns if name in self.there])})"

    def _same(self) -> str:
        return f"PARTITION BY {self._whole()}"

    def _hash(self, name: str) -> str:
        return f"hashtextextended({self._row([name])}, 0)" if name in self.there else "0"

    def _row(self, names: Sequence[str]) -> str:
        return f"ROW({', '.join(map(self._value, names))})::text"

    def _value(self, name: str) -> str:
        value = f"t.{quote_identifier(name)}"
        if name not in self.renumbered:
            return value
        return f"coalesce({quote_literal(self.renumbered[name])}::jsonb ->> {value}::text, {value}::text)"


def _write_row(names: Sequence[str]) -> str:
    return f"ROW({', '.join(f't.{quote_identifier(name)}' for name in names)})::text"


def write_whole_sum(table: Relation, columns: Sequence[str]) -> str:
    """Return the query for how many rows a table has, and a sum of their hashes by these columns."""
    return (
        f"SELECT count(*), coalesce(sum(hashtextextended({_write_row(columns)}, 1)), 0)::text FROM ONLY "
        f"{table.sql} AS t"
    )


def write_written_by(xids: frozenset[int], which: str = "xmin") -> str:
    """Return the condition that one of these ids wrote a row of `t`, or with `xmax` replaced it."""
    return f"t.{which} = ANY('{{{','.join(map(str, sorted(xids)))}}}'::xid[])" if xids else "false"


_RUNNING: Final = """
SELECT (number & 4294967295)::text FROM (SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::bigint / 4294967296)
  * 4294967296 + %(xid)s::bigint AS first) AS at, generate_series(greatest(3, first - %(back)s), first - 1) AS number
WHERE first < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
  AND pg_xact_status(number::text::xid8) IS DISTINCT FROM 'committed'
"""
_BACK: Final = 20_000
"""How many ids before the damage's are checked for transactions that were still running when it committed."""


def find_running_then(after: Any, xid: int) -> frozenset[int]:
    """Return ids below that of the damage whose transactions had not committed when it did, and may have since.

    In the side just after the damage, what was under way is rolled back.
    """
    return frozenset(int(number) for (number,) in after.execute(_RUNNING, {"xid": xid, "back": _BACK}))


def find_oldest_running(connection: Any) -> int:
    """Return the id (32 bits) from which on a transaction may be running, or come."""
    (xid,) = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").fetchone()
    return int(xid) % (1 << 32)


def write_since(xid: int, running: frozenset[int]) -> str:
    """Return the condition that a row of `t` was written under the id of the damage, a later one or a running one."""
    later = f"age(t.xmin) <= age('{xid}'::xid)"
    return f"({later} OR {write_written_by(running)})" if running else later
