"""Missing rows: removed by others before the rescue began or after it, or never put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from backout.providers.postgres.comparison.tables import write_whole_sum
from backout.providers.postgres.provenance.packing import unpack_numbers

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.database.comparison import Evidence
    from backout.providers.postgres.comparison.tables import Relation
    from backout.providers.postgres.server.owner_session import SideSessions


class Absent:
    """Decides of missing rows whether others removed them.

    Args:
        before: the sessions with the side just before the damage.
    """

    def __init__(self, before: SideSessions, evidence: Evidence) -> None:
        self._before = before
        self._evidence = evidence

    def not_among(self, damaged: str, noted: Collection[str], keys: list[str]) -> set[str]:
        """Return the keys of rows that were not there when the rescue began.

        Args:
            damaged: hashes of the keys of rows that stood then as the damage left them, packed.
            noted: the keys of rows that others had written by then.
            keys: in hexadecimal, as all of them.
        """
        there = unpack_numbers(damaged)
        return {key for key, number in self._hash_keys(keys) if number not in there and key not in noted}

    def put_back(self, table: Relation, keys: list[str]) -> set[str]:
        """Return those of these keys that the table held in the transaction in which the rescue wrote them."""
        if self.was_made_whole(table):
            return set(keys)
        there = set[int]().union(*map(unpack_numbers, self._evidence.put_back.get(table.oid, ())))
        return {key for key, number in self._hash_keys(keys) if number in there}

    def was_made_whole(self, table: Relation) -> bool:
        """Whether the rescue made a table again, with every old row, in that transaction."""
        told = self._evidence.made.get(table.shown)
        if told is None:
            return False
        columns = cast("list[str]", told["columns"])
        if not set(columns) <= set(table.columns):
            return False
        rows, added = self._before.of(table.owner).execute(write_whole_sum(table, columns)).fetchone()
        return bool((rows, added) == (told["rows"], told["sum"]))

    def _hash_keys(self, keys: list[str]) -> list[tuple[str, int]]:
        """Return keys with their hashes."""
        query = "SELECT k, hashtextextended(convert_from(decode(k, 'hex'), 'UTF8'), 1) FROM unnest(%s::text[]) AS k"
        return list(self._before.main.execute(query, (keys,)).fetchall())
