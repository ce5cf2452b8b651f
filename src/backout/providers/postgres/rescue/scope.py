"""The tables of a rescue, and its state: its connections, and its records for an undo."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.model.database.rescue import RENAMED, LeftOut, TableRescue
from backout.providers.postgres.provenance.earlier_rescues import Since
from backout.providers.postgres.schema.definitions import find_back_again, find_shared_columns
from backout.providers.postgres.schema.history import HISTORY_TABLES
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import KeyColumn, join_identifiers, match_keys
from backout.providers.postgres.server.message import get_message, may_pass
from backout.providers.postgres.server.plain import write_foreign_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from backout.model.database.removed import RemovedSince
    from backout.model.database.rescue import Damage
    from backout.providers.postgres.rescue.kept import Kept
    from backout.providers.postgres.schema.definitions import Catalog, Column, Table

_QUEUE: Final = re.compile(r"outbox|inbox|queue|jobs?$", re.IGNORECASE)
_UPDATES: Final = frozenset({"UPDATE", "HOT_UPDATE"})
_CONTENT: Final = frozenset({"INSERT", "MULTI_INSERT", "UPDATE", "HOT_UPDATE", "DELETE"})


@dataclass
class Work:
    """The work on one table that exists in all three states.

    Args:
        called: the former name of each column, by its name.
        orphans: rows whose parents are missing.
        standing: the condition that the row `l` was not written since.
        waiting: rows that could not be written because of other rows; `written` could, in the same pass.
        refused: Postgres' error, where it refused.
        others: object ids of all tables to which rows come back, with those that they are partitions of.
        numbered: of these the ones whose keys a sequence gives out again, see `rescue.numbers`.
        holds: by column, as named before the damage, those of `numbered` whose numbers stand in it.
        done: whether there is a table of keys of rows that rescues wrote since (`rescue_done`).
        witnesses: ids of good transactions that wrote rows of the damage last, and before its end.
        kept_rows: that stay, whatever they are; `kept_examples`, their keys.
        unclear: as FROM and WHERE, rows that were written since and hold what the damage left.
        notes: what a person should know of it.
        given: the new numbers of its rows by their old ones (`rescue.renumbering`); `not_given`: why there are none,
            `kept_numbers`: the file that holds them.
        moves: by column, as named before the damage, the numbers that take the place of others.
        followed: in how many places of the rows of before one stands that is not the row's own.
    """

    table: Table
    before: Table
    after: Table
    key: tuple[KeyColumn, ...] = ()
    columns: tuple[str, ...] = ()
    called: dict[str, str] = field(default_factory=dict)
    whole: bool = False
    deletes: bool = False
    lost: tuple[Column, ...] = ()
    orphans: int = 0
    standing: str = "true"
    waiting: int = 0
    written: int = 0
    refused: str = ""
    others: frozenset[int] = frozenset()
    numbered: Mapping[int, Work] = field(default_factory=dict)
    holds: Mapping[str, frozenset[int]] = field(default_factory=dict)
    witnesses: frozenset[int] = frozenset()
    done: bool = False
    kept_rows: int = 0
    kept_examples: tuple[str, ...] = ()
    unclear: str = ""
    notes: list[str] = field(default_factory=list)
    given: dict[int, int] = field(default_factory=dict)
    not_given: str = ""
    kept_numbers: str = ""
    moves: dict[str, dict[int, int]] = field(default_factory=dict)
    followed: int = 0
    report: TableRescue = field(default_factory=lambda: TableRescue(""))

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Skip this table, and no other, when Postgres refuses for good; after a refusal nothing is tried.

        A lock that is not to be had, or a server that goes away, stops all of it: later it may work.
        """
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            if may_pass(error):
                raise
            self.refused = self.refused or f"Postgres refused it: {get_message(error)}"

    def read(self, table: Table) -> str:
        """Return the columns of a table before or after the damage, as SQL, to be read as they were before.

        A column whose type the damage changed, and whose old type was restored since, is compared with its old type.
        """
        types = {column.name: column.type for column in self.before.columns}
        retyped = {column.name for column in table.columns if types.get(column.name, column.type) != column.type}
        names = self.called.values()
        return ", ".join(f"{quote_identifier(n)}::{types[n]}" if n in retyped else quote_identifier(n) for n in names)

    @property
    def gone(self) -> str:
        """The condition that the old row `b` does not exist after the damage, as SQL."""
        return f"NOT EXISTS (SELECT FROM {self.name('after')} d WHERE {match_keys(self.key, 'b', 'd')})"

    def name(self, what: str) -> str:
        """Return the name of a temporary table of this work."""
        return f"backout_{what}_{self.table.oid}"


@dataclass
class Session:
    """The three connections of a rescue; `kept` is None in a dry run.

    Args:
        of: returns the same with the connections in which the tables of an owner are read and written: their
            role has nothing to lose from what the owner's code does there.
        strange: returns why a table is not touched in the connections of its owner, "" when it may be.
        owner: the role of the connections, "" where they need not act as another.
        left_out: what of the damage is not taken back, of all owners.
        ours: the ids under which rescues and their undos wrote.
        done: what rescues wrote since the damage.
        removed: reads which rows others made anew since and removed again, `known_until` up to which position in the
            WAL; None: up to now.
        set_back: the last number of each sequence that the damage set back, by object id.
    """

    before: Any
    after: Any
    live: Any
    damage: Damage
    kept: Kept | None
    progress: Callable[[str, int, int], None]
    of: Callable[[str], Session]
    strange: Callable[[Table, Table | None, Table | None], str]
    owner: str = ""
    left_out: list[LeftOut] = field(default_factory=list)
    ours: frozenset[int] = frozenset()
    done: Since = field(default_factory=Since)
    removed: RemovedSince | None = None
    known_until: int | None = None
    set_back: dict[int, int] = field(default_factory=dict)

    def forget(self, temporary: str) -> None:
        """Drop a temporary table, as the owner or the role that the owner's code left set; then be the owner again."""
        if self.owner:
            self.live.execute("SET SESSION ROLE NONE")
        self.live.execute(f"DROP TABLE IF EXISTS {temporary}")
        if self.owner:
            self.live.execute(f"SET SESSION ROLE {quote_identifier(self.owner)}")


def works_of(session: Session, before: Catalog, after: Catalog, live: Catalog) -> list[Work]:
    """Return the tables that the damage wrote to, or that lost a column."""
    written = None if session.damage.written is None else {node: set(kinds) for node, kinds in session.damage.written}
    found = []
    for oid, table in before.tables.items():
        then = after.tables.get(oid)
        if then is None:
            continue
        now = live.tables.get(oid)
        if written is None:
            kinds = set() if table.partitioned else find_damage_kinds(session, table, then, now)
        else:
            nodes = {*table.nodes, *then.nodes} - {0}
            kinds = set().union(*(written.get(node, set()) for node in nodes)) & _CONTENT
        lost = tuple(column for column in table.columns if all(column.number != each.number for each in then.columns))
        rewritten = table.nodes[0] != then.nodes[0]
        if not (kinds or lost or rewritten):
            continue
        # An update that is not heap-only may have written another key, too, and any where there was no key meanwhile;
        # where tables are compared, keys tell.
        moves = (
            {"UPDATE"}
            if find_key_constraint(session.before, oid) == find_key_constraint(session.after, oid)
            else _UPDATES
        )
        gone = "DELETE" in kinds or (written is not None and bool(moves & kinds))
        work = Work(now or table, table, then, whole=rewritten, deletes=gone, lost=lost)
        work.report = TableRescue(work.table.shown, left="" if now else "the table no longer exists")
        found.append(work)
    return found


def find_damage_kinds(session: Session, table: Table, then: Table, now: Table | None) -> set[str]:
    """Return what the damage did to a table, from the table itself: rows of its ids, and keys that came or went."""
    if table.shown in session.damage.skip or session.strange(table, then, now):
        return {"UPDATE"}
    session = session.of((now or table).owner)
    key = read_key(session.live, now) if now else ()
    if not set(key) <= {each.name for each in table.columns} & {each.name for each in then.columns}:
        key = ()
    hashed = write_key_hash(key) if key else "0"
    counted = f"count(*) FILTER (WHERE xmin = ANY('{format_xids(session)}'::xid[]))"
    query = f"SELECT {{}}, count(*), sum({hashed}) FROM ONLY {{}}"
    ours, *ends = session.after.execute(query.format(counted, then.sql)).fetchone()
    _, *starts = session.before.execute(query.format("0", table.sql)).fetchone()
    return {kind for kind, there in (("UPDATE", ours), ("DELETE", starts != ends)) if there}


def explain_strange_code(end: Any, table: Table, owner: str, *, written: bool) -> str:
    """Return why a table is not touched, "" when it may be: its code would be more than its owner, or not all shows.

    Args:
        end: what has the sessions.
        table: as it is there.
        owner: in whose session it is to be read or written.
    """
    if table.owner != owner:
        return f"its owner was changed: {table.owner}, {owner}"
    if not end.runs_superusers_code(owner):
        return "row security holds for its owner too, so that not every row would be seen" if table.forced else ""
    (why,) = end.of(owner).execute(write_foreign_code(f"{table.oid}::oid", written=written)).fetchone()
    return "" if why is None else f"a superuser does not run {why}, which belongs to another role"


def _explain_unreadable(live: Any, table: Table) -> str:
    """Return why rows cannot be judged by their parents and children, "" when they can."""
    query = (
        "SELECT string_agg(other::regclass::text, ', ') FROM (SELECT conrelid AS other FROM pg_constraint "
        "WHERE contype = 'f' AND confrelid = %(oid)s UNION SELECT confrelid FROM pg_constraint "
        "WHERE contype = 'f' AND conrelid = %(oid)s) AS others "
        "WHERE NOT has_table_privilege(%(owner)s, other, 'SELECT')"
    )
    (names,) = live.execute(query, {"oid": table.oid, "owner": table.owner}).fetchone()
    return (
        f"its owner may not read {names}: GRANT SELECT ON {names} TO {quote_identifier(table.owner)}" if names else ""
    )


def write_key_hash(key: Sequence[str]) -> str:
    """Return a number for a row's key, as SQL; the same on each branch."""
    return f"hashtextextended(ROW({join_identifiers(key)})::text, 0)"


def format_xids(session: Session) -> str:
    """Return the damage's ids as an array that SQL reads."""
    return f"{{{','.join(map(str, sorted(session.damage.xids)))}}}"


def is_left_alone(session: Session, work: Work, reports: list[TableRescue]) -> bool:
    """Whether a table is not touched, with the reason in the report; else complete what is to be done with it."""
    table = work.table
    if not work.report.left and table.partitioned:
        return True  # its partitions hold the rows
    left = work.report.left or explain_left(session, work) or explain_not_followed(session, work)
    if not left:
        work.key = read_key(session.live, table)
        if not work.key:
            left = "it has no primary key"
    work.called, retyped = find_shared_columns(work.before, work.after, table)
    work.columns = tuple(work.called)
    if not left and any(work.called.get(name) != name for name in work.key):
        left = "its primary key was changed by the damage, or since"
    for then, now in () if left else retyped:
        reason = f"its type was changed since, from {then.type} to {now.type}: its values were not compared"
        session.left_out.append(LeftOut(f"column {table.shown}.{now.name}", reason, seen=False))
    triggers = tuple(name for name, _ in list_triggers(session.live, table.oid))
    work.report = replace(work.report, left=left or _explain_renamed_columns(work), triggers=triggers)
    if left:
        reports.append(work.report)
    return bool(left)


def explain_not_followed(session: Session, work: Work) -> str:
    """Return why the rows of a table cannot be followed from write to write, "" when they can."""
    damage, nodes = session.damage, {*work.before.nodes, *work.after.nodes} - {0}
    if damage.chains is None:
        return ""
    if work.whole and nodes & damage.others:
        return "it was rewritten or emptied, and good transactions wrote to it meanwhile"
    if nodes & damage.unknown:
        return "rows were copied into it meanwhile whose places the WAL does not tell"
    return ""


def _explain_renamed_columns(work: Work) -> str:
    """Return which columns the damage gave another name or type, "" for none: values of the one may not fit it."""
    now = {column.number: (column.name, column.type) for column in work.after.columns}
    back = find_back_again(work.before, work.after, work.table)
    before = [column for column in work.before.columns if column.number not in back]
    found = [c.name for c in before if now.get(c.number, (c.name, c.type)) != (c.name, c.type)]
    return f"{RENAMED}: {', '.join(found)}" if found else ""


def explain_left(session: Session, work: Work) -> str:
    """Return why a table is left alone whatever its rows are, "" when it is not."""
    table, damage = work.table, session.damage
    if table.shown in damage.skip:
        return "as you asked"
    if strange := session.strange(work.before, work.after, table) or _explain_unreadable(session.live, table):
        return strange
    if work.whole and not damage.exact:
        return "it was rewritten, and others wrote at that time: look at the side branch"
    if table.name in HISTORY_TABLES:
        return "the migration history is left as it is: see `backout db migrations status`"
    if _QUEUE.search(table.name) and not damage.queues:
        return "it looks like a queue, and what is put back would be sent again; --queues takes it in"
    return ""


def read_key(live: Any, table: Table) -> tuple[KeyColumn, ...]:
    """Return the columns of its primary key, () without one."""
    query = (
        "SELECT a.attname, (SELECT quote_ident(n.nspname) FROM pg_opclass o JOIN pg_amop m ON m.amopfamily = "
        "o.opcfamily AND m.amoplefttype = o.opcintype AND m.amoprighttype = o.opcintype AND m.amopstrategy = 3 "
        "JOIN pg_operator e ON e.oid = m.amopopr JOIN pg_namespace n ON n.oid = e.oprnamespace "
        "WHERE o.oid = k.opclass) "
        "FROM pg_index i, unnest(i.indkey, i.indclass) WITH ORDINALITY AS k(number, opclass, place) "
        "JOIN pg_attribute a ON a.attnum = k.number WHERE a.attrelid = i.indrelid AND i.indrelid = %s "
        "AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place"
    )
    return tuple(KeyColumn.of(name, schema or "pg_catalog") for name, schema in live.execute(query, (table.oid,)))


def find_key_constraint(end: Any, oid: int) -> int | None:
    """Return the object id of a table's primary key, None without one; another one is another key."""
    query = "SELECT oid::bigint FROM pg_constraint WHERE conrelid = %s AND contype = 'p'"
    found = end.execute(query, (oid,)).fetchone()
    return None if found is None else int(found[0])


def list_triggers(live: Any, oid: int) -> list[tuple[str, str]]:
    """Return the user's triggers that fire, and how each is enabled."""
    query = (
        "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = %s AND NOT tgisinternal AND tgenabled <> 'D'"
    )
    return [(name, how) for name, how in live.execute(query, (oid,))]


def sort_parents_first(live: Any, works: Sequence[Work]) -> list[Work]:
    """Return them so that a row's parent comes before it; in a circle the order is as it was."""
    query = (
        "SELECT conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f' AND conrelid <> confrelid"
    )
    return _sort_behind(works, live.execute(query).fetchall())


def sort_heirs_first(live: Any, works: Sequence[Work]) -> list[Work]:
    """Return them so that a table comes after those that inherit from it.

    A column that is an heir's own as well is added to the heir before it comes there from its parent.
    """
    return _sort_behind(works, live.execute("SELECT inhparent::bigint, inhrelid::bigint FROM pg_inherits").fetchall())


def _sort_behind(works: Sequence[Work], pairs: Iterable[tuple[int, int]]) -> list[Work]:
    """Return them so that of each pair of object ids the first comes after the second."""
    firsts: dict[int, set[int]] = {}
    for one, first in pairs:
        firsts.setdefault(one, set()).add(first)
    left, ordered = list(works), []
    while left:
        oids = {work.table.oid for work in left}
        free = [work for work in left if not firsts.get(work.table.oid, set()) & oids] or left
        ordered += free
        left = [work for work in left if work not in free]
    return ordered
