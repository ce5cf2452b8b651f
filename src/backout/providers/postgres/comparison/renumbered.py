"""Rows that a rescue brought back under new numbers, as the second check understands them.

Which number became which is the rescue's claim. It is believed where it can be true: one new number for each old one,
and none that a row of before has. What refers to these rows is read here anew from the foreign keys of before.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.decoding import decode_json
from backout.providers.postgres.schema.quoting import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from backout.model.database.comparison import Evidence
    from backout.providers.postgres.comparison.tables import Relation
    from backout.providers.postgres.server.owner_session import SideSessions

_FILES: Final = "renumbered-*.tsv"
"""The files in which a rescue keeps old and new numbers, by table's object id, behind a line of JSON."""
_WHOLE: Final = """
WITH RECURSIVE whole AS (
  SELECT a.attrelid, a.attnum, a.attname FROM pg_attribute a WHERE a.attrelid = %(oid)s AND a.attname = %(column)s
  UNION
  SELECT a.attrelid, a.attnum, a.attname FROM whole w
  JOIN pg_constraint c ON c.contype = 'f' AND c.confrelid = w.attrelid
  JOIN pg_attribute a ON a.attrelid = c.conrelid
    AND a.attnum = c.conkey[array_position(c.confkey, w.attnum)]
    AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
  WHERE c.conrelid = ANY(%(there)s::oid[]))
SELECT attrelid::bigint, attname::text FROM whole
"""


def read_numbers(kept: Path) -> Iterator[tuple[int, dict[int, int]]]:
    """Yield what a rescue keeps of new numbers: the table's object id, and the new ones by the old ones."""
    for path in sorted(kept.glob(_FILES)):
        _, *lines = path.read_text(encoding="utf-8").splitlines()
        pairs = (line.split("\t") for line in lines)
        yield int(path.stem.removeprefix("renumbered-")), {int(old): int(new) for old, new in pairs}


class Renumbered:
    """The columns of before in which other numbers stand now.

    Args:
        before: the sessions with the side just before the damage.
        tables: those of before, by object id.
        there: object ids of the tables after the damage: one that it dropped comes back as it was.
    """

    def __init__(
        self, before: SideSessions, evidence: Evidence, tables: Mapping[int, Relation], there: Collection[int]
    ) -> None:
        self._evidence = evidence
        self._columns: dict[int, dict[str, str]] = {}
        for oid, numbers in evidence.renumbered.items():
            table = tables.get(oid)
            if table is None or len(table.key) != 1 or not _can_be_true(before.of(table.owner), table, numbers):
                continue
            text = json.dumps({str(old): new for old, new in numbers.items()})
            asked: dict[str, Any] = {"oid": oid, "column": table.key[0], "there": sorted(there)}
            for child, column in before.main.execute(_WHOLE, asked):
                self._columns.setdefault(child, {})[column] = text

    def of(self, table: Relation) -> Mapping[str, str]:
        """Return the columns of a table that hold such numbers, each with {old: new} as JSON."""
        return self._columns.get(table.oid, {})

    def evidence(self, table: Relation) -> Evidence:
        """Return the evidence with those rows of a table that good transactions wrote under their new keys as well."""
        told, keys = self._evidence, self._evidence.between.get(table.oid, frozenset())
        text = self.of(table).get(table.key[0]) if len(table.key) == 1 else None
        if text is None or not keys:
            return told
        numbers = decode_json(text, dict[str, int], what="new numbers")
        more = {_encode_key(new) for old, new in numbers.items() if _encode_key(old) in keys}
        return replace(told, between={**told.between, table.oid: keys | more})


def _encode_key(number: str | int) -> str:
    return f"({number})".encode().hex()


def _can_be_true(session: Any, table: Relation, numbers: Mapping[int, int]) -> bool:
    if len(set(numbers.values())) < len(numbers):
        return False
    news = ",".join(map(str, numbers.values()))
    query = (
        f"SELECT EXISTS (SELECT FROM ONLY {table.sql} AS t WHERE t.{quote_identifier(table.key[0])} = "
        f"ANY('{{{news}}}'))"
    )
    (taken,) = session.execute(query.encode()).fetchone()
    return not taken
