"""Bring back definitions that the damage dropped or changed, each as its owner; a failed one does not stop the others.

What belongs to one owner is made in one transaction, dropped tables with their rows: no table is ever visible without
its keys.
What fails there is tried again when the rest is there, and what still fails is left out, with the reason and the SQL.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.database.rescue import LeftOut, TableRescue
from backout.providers.postgres.provenance.claims import count_rows_made
from backout.providers.postgres.rescue.foreseen import explain_obstacle
from backout.providers.postgres.schema.definition_changes import RUN_NOTHING, Change, make_plan, write_ownership
from backout.providers.postgres.schema.definition_columns import PARTS, list_columns_left_out, take_apart
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import copy_rows, join_identifiers
from backout.providers.postgres.server.message import get_message, may_pass

if TYPE_CHECKING:
    from backout.providers.postgres.rescue.scope import Session
    from backout.providers.postgres.schema.definition_changes import Definitions
    from backout.providers.postgres.schema.definitions import Catalog, Table

_ROUNDS: Final = 4
_TABLES_OF: Final = """
SELECT indexrelid::bigint, indrelid::bigint FROM pg_index UNION ALL SELECT oid, conrelid FROM pg_constraint
UNION ALL SELECT oid, tgrelid FROM pg_trigger UNION ALL SELECT oid, ev_class FROM pg_rewrite
UNION ALL SELECT oid, stxrelid FROM pg_statistic_ext UNION ALL SELECT oid, adrelid FROM pg_attrdef
"""
_HAS_FOREIGN_CODE: Final = (
    "SELECT session_user IN (SELECT rolname FROM pg_roles WHERE rolsuper) AND EXISTS (SELECT FROM pg_proc p "
    "JOIN pg_roles r ON r.oid = p.proowner WHERE NOT r.rolsuper)"
)


class DefinitionRescue:
    """Repairs damaged definitions in two passes: those that rows need, and those that need rows.

    Args:
        session: the administrator's.
        definitions: before, after and live as pg_dump says.
        catalogs: of the same three.
    """

    def __init__(
        self,
        session: Session,
        definitions: tuple[Definitions, Definitions, Definitions],
        catalogs: tuple[Catalog, Catalog, Catalog],
    ) -> None:
        self._session = session
        self._before, _, self._now = catalogs
        parts = take_apart(*catalogs)
        before, after, live = ({**apart, **whole} for apart, whole in zip(parts, definitions, strict=True))
        plan = make_plan(before, after, live)
        self._tables_of: dict[int, int] | None = None
        self._pending = [each for each in plan.missing if not self._was_made(each)]
        self._changed = list(plan.changed)
        left = [*plan.left_out, *list_columns_left_out(*catalogs)]
        if not session.damage.exact:  # others wrote at that time, too: the author of a change is unknown
            reason = "it was changed when others wrote, too"
            left += [LeftOut(each.definition.shown, reason, each.statement) for each in self._changed]
            left = [replace(each, seen=False) for each in left]
            self._changed = []
        session.left_out.extend(left)
        self._why: dict[str, str] = {}
        self.reports: list[TableRescue] = []
        self.statements: list[str] = []

    @property
    def tables(self) -> set[int]:
        """The object ids, before the damage, of the tables that come back whole."""
        return {each.definition.oid for each in self._pending if each.definition.kind == "TABLE"}

    def first(self) -> None:
        """Make what is missing, as far as it can be made before columns and rows are back."""
        if self._session.kept is None:
            for each in self._pending:
                self._foresee(each)
            for change in self._changed:
                if why := explain_obstacle(self._session, change.definition, self._before, self._now):
                    self._session.left_out.append(LeftOut(change.definition.shown, why, change.statement))
                else:
                    self.statements.append(change.statement)
            return
        self._rounds()

    def then(self) -> None:
        """Make the rest, and what was changed; report what cannot be made."""
        if self._session.kept is None:
            return
        self._rounds()
        self._leave_out()
        for change in self._changed:
            self._pending = [change]
            self._make_for_owner(change.definition.owner, [change])
            self._leave_out()

    def _leave_out(self) -> None:
        for change in self._pending:
            why = self._why.get(change.statement, "it could not be made")
            self._session.left_out.append(LeftOut(change.definition.shown, why, change.statement))
        self._pending = []

    def _foresee(self, change: Change) -> None:
        made = change.definition
        table = self._before.tables.get(made.oid) if made.kind == "TABLE" else None
        why = self._explain_refusal(change) or explain_obstacle(self._session, made, self._before, self._now)
        if why:
            self._session.left_out.append(LeftOut(made.shown, why, change.statement))
        elif table is not None:
            (count,) = self._session.before.execute(f"SELECT count(*) FROM ONLY {table.sql}").fetchone()
            self.reports.append(TableRescue(table.shown, inserted=count))
        if not why:
            self.statements.append(_describe_change(change))

    def _rounds(self) -> None:
        for _ in range(_ROUNDS):
            count = len(self._pending)
            for owner in dict.fromkeys(each.definition.owner for each in self._pending):
                self._make_for_owner(owner, [each for each in self._pending if each.definition.owner == owner])
            if len(self._pending) in (0, count):
                break

    def _make_for_owner(self, owner: str, changes: list[Change]) -> None:
        """Make what belongs to one owner, in a transaction; what fails stays pending."""
        import psycopg

        session = self._session.of(owner) if owner else self._session
        culprits: set[str] = set()
        while True:
            wanted = [each for each in changes if each.statement not in culprits]
            doing = [""]
            try:
                with session.live.transaction():
                    done = self._make_all(session, wanted, doing)
            except psycopg.Error as error:
                if may_pass(error) or not doing[0]:
                    raise
                culprits.add(doing[0])
                self._why[doing[0]] = get_message(error)
                continue
            done |= {each.statement for each in changes if each.statement not in done and self._as_administrator(each)}
            self._pending = [each for each in self._pending if each.statement not in done]
            return

    def _make_all(self, session: Session, changes: list[Change], doing: list[str]) -> set[str]:
        """Make them, each with a savepoint, then the rows of tables; return the statements that were done."""
        session.live.execute("SET LOCAL check_function_bodies = off")
        done: list[Change] = []
        for stage in range(max(map(_get_stage, changes), default=0) + 1):
            for change in (each for each in changes if _get_stage(each) == stage and self._try(session, each)):
                table = self._before.tables.get(change.definition.oid)
                if change.definition.kind == "TABLE" and table is not None:
                    doing[0] = change.statement
                    _copy_rows(session, table)
                    doing[0] = ""
                    self._note_table(session, table)
                else:
                    self._note(session, change)
                done.append(change)
        self.statements += [_describe_change(change) for change in done]
        return {change.statement for change in done}

    def _note(self, session: Session, change: Change) -> None:
        """Keep how it is taken away again, before the commit."""
        assert session.kept is not None
        if change.undo:
            made = change.definition
            owner = "" if session is self._session else made.owner
            entry = {"op": "other", "table": made.shown, "drop": change.undo, "owner": owner}
            is_known = (made.catalog and made.oid) or made.kind in PARTS
            known = {"key": list(made.key), "lines": list(made.lines)} if is_known else {}
            session.kept.write(session.live, {**entry, **known})

    def _note_table(self, session: Session, table: Table) -> None:
        assert session.kept is not None
        made = count_rows_made(session.live, table)
        (xid,) = session.live.execute("SELECT pg_current_xact_id()::text").fetchone()
        entry = {"op": "table", "table": table.shown, "sql": table.sql, "xid": xid, "rows": made["rows"], "made": made}
        session.kept.note_writer(session.live)
        session.kept.write(session.live, entry)
        self.reports.append(TableRescue(table.shown, inserted=made["rows"]))

    def _try(self, session: Session, change: Change) -> bool:
        import psycopg

        if why := self._explain_refusal(change):
            self._why[change.statement] = why
            return False
        try:
            with session.live.transaction():
                session.live.execute(change.statement)
                self._complete(session, change)
        except psycopg.Error as error:
            if may_pass(error):
                raise
            self._why[change.statement] = get_message(error)
            return False
        return True

    def _as_administrator(self, change: Change) -> bool:
        """Create for an owner what the owner may no longer create, where that runs none of the owner's code."""
        import psycopg

        made, live = change.definition, self._session.live
        if made.kind not in RUN_NOTHING or self._session.of(made.owner).live is live:
            return False
        try:
            with live.transaction():
                if made.kind == "SCHEMA":
                    live.execute(
                        f"CREATE SCHEMA {quote_identifier(made.name)} AUTHORIZATION {quote_identifier(made.owner)}"
                    )
                else:
                    live.execute("SET LOCAL check_function_bodies = off")
                    live.execute(change.statement)
                    if given := write_ownership(made):
                        live.execute(given)
                self._note(self._session, change)
        except psycopg.Error as error:
            if may_pass(error):
                raise
            return False
        self.statements.append(change.statement)
        return True

    def _complete(self, session: Session, change: Change) -> None:
        """What pg_dump writes beside the definition: how far a sequence was, what a materialized view shows."""
        made, live = change.definition, session.live
        name = f"{quote_identifier(made.schema)}.{quote_identifier(made.name)}"
        if made.kind == "SEQUENCE":
            last, called = session.before.execute(f"SELECT last_value, is_called FROM {name}").fetchone()
            live.execute("SELECT setval(%s, %s, %s)", (name, last, called))
        elif made.kind == "MATERIALIZED VIEW":
            query = "SELECT relispopulated FROM pg_class WHERE oid = %s"
            (filled,) = self._session.before.execute(query, (made.oid,)).fetchone()
            if filled and not (session.owner == "" and live.execute(_HAS_FOREIGN_CODE).fetchone()[0]):
                live.execute(f"REFRESH MATERIALIZED VIEW {name}")  # else its query could call any role's function

    def _table_of(self, change: Change) -> int:
        """Return the object id of the table that a definition is of, 0 for none."""
        if self._tables_of is None:
            self._tables_of = dict(self._session.before.execute(_TABLES_OF).fetchall())
        made = change.definition
        return made.oid if made.kind == "TABLE" else self._tables_of.get(made.oid, 0)

    def _was_made(self, change: Change) -> bool:
        """Whether a rescue has made something again since the damage: then it was dropped again, which is reported."""
        done, table = self._session.done, self._before.tables.get(self._table_of(change))
        if change.undo not in done.drops and (table is None or table.sql not in done.tables):
            return False
        if table is None or change.definition.kind == "TABLE":
            why = "a rescue had made it again, and it was dropped since"
            self._session.left_out.append(LeftOut(change.definition.shown, why, change.statement, asked=True))
        return True

    def _explain_refusal(self, change: Change) -> str:
        """Return why something is not made in the session of its table's owner, "" when it may be."""
        oid = self._table_of(change)
        table = self._before.tables.get(oid)
        return self._session.strange(table, None, self._now.tables.get(oid)) if table is not None else ""


def _get_stage(change: Change) -> int:
    """Return after what something is made: rows come before keys, and a partition is attached with its own.

    Attached without them it would be given others of its parent's.
    """
    made = change.definition
    if made.kind == "TABLE ATTACH":
        return 2
    if not made.late:
        return 0
    return 1 if made.kind in ("CONSTRAINT", "INDEX") else 3


def _describe_change(change: Change) -> str:
    made = change.definition
    return (
        f"CREATE TABLE {quote_identifier(made.schema)}.{quote_identifier(made.name)}"
        if made.kind == "TABLE"
        else change.statement
    )


def _copy_rows(session: Session, table: Table) -> None:
    """Bring the rows of a table that was made again; its partitions hold those of a partitioned one."""
    columns = join_identifiers([column.name for column in table.columns if not column.generated])
    if not table.partitioned and columns:
        read, write = (f"COPY {table.sql} ({columns}) {way}" for way in ("TO STDOUT", "FROM STDIN"))
        copy_rows(session.before, read, session.live, write)
