"""The context of a statement: the schema just before it, and the one at the end of its migration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.compatibility.known.schema import Relation
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.analysis.compatibility.known.schema import Column, Name, Schema


class Moment(Value, frozen=True):
    """A statement's place.

    Args:
        before: just before the statement.
        after: when the whole migration is done, so that what is dropped and made again, or filled later, is judged by
            what remains.
    """

    before: Schema
    after: Schema

    def is_new_table(self, name: Name) -> bool:
        """Say whether the migration created this relation or index where none existed."""
        return self.before.is_novel("relation", name)

    def is_new_column(self, table: Name, column: str) -> bool:
        """Say whether the migration added this column."""
        return self.before.is_novel("column", table, column) or self.is_new_table(table)

    def has_new_trigger(self, table: Name) -> bool:
        """Say whether the migration puts a trigger on a table, which may fill what old code leaves out."""
        return any(item[0] == "trigger" and item[1] == table for item in self.after.novel)

    def never_there(self, schema: str) -> bool:
        """Say whether what no migration made is not there: earlier ones began the history, and none is a riddle."""
        return self.before.begun and self.before.whole(schema)

    def is_new_thing(self, schema: str) -> bool:
        """Say whether what is made here for the first time takes no older one's place.

        The first migration here begins the history only if nothing in it is about what was there before.
        """
        return self.before.whole(schema) if self.before.begun else self.after.whole(schema)

    def with_column(self, table: Name, column: Column) -> Moment:
        """Return the moment with a column that is being added already in place."""
        before = self.before.copy()
        before.novel.add(("column", table, column.name))
        after = self.after.copy()
        if table not in after.relations:
            after.relations[table] = Relation(table, "table", whole=False)
        if after.relations[table].column(column.name) is None:
            after.relations[table] = after.relations[table].with_column(column)
        return Moment(before, after)
