"""The rows of several damages at once: each followed by its places, from its first version to its last.

Where good transactions wrote a row between bad ones, what it would be without the bad ones is put together from its
versions; where they did not, its first version is what comes back.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import copy_rows, join_identifiers
from backout.providers.postgres.server.copy_out import read_copy
from backout.providers.postgres.server.pinned import write_pins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.database.chains import Chain, Image
    from backout.providers.postgres.rescue.scope import Session, Work
    from backout.providers.postgres.schema.definitions import Table
    from backout.providers.postgres.server.owner_session import SideSessions

_CHUNK: Final = 10_000
_TABLES: Final = """
SELECT c.relfilenode::bigint, n.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text,
  ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    AND attgenerated = '' ORDER BY attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.relfilenode = ANY(%s::oid[])
"""
_SHOWN: Final = 5


def read_chains(session: Session, work: Work) -> tuple[Chain, ...]:
    """Return the rows of a table that the damage wrote to."""
    nodes = {work.before.nodes[0], work.after.nodes[0]}  # places in its TOAST table are none of its own
    return tuple(each for each in session.damage.chains or () if each.node in nodes)


def load_chains(session: Session, work: Work) -> None:
    """Bring the rows into the temporary tables: as they would be without the damage, and as they were after it."""
    plain: list[Chain] = []
    woven: list[Chain] = []
    for each in read_chains(session, work):
        (woven if each.mixed else plain).append(each)
    made = [each for each in woven if each.first is None and each.steps[0].bad]
    _keep(session, work, [each.last for each in made if each.last is not None])
    mixed = [each for each in woven if each.first is not None or not each.steps[0].bad]
    lacking = {id(each) for each in _write_ideals(session, work, mixed)}
    firsts = [each.first for each in plain if each.first is not None]
    whole = (each for each in mixed if id(each) not in lacking)
    lasts = [each.last for each in (*plain, *whole) if each.last is not None]
    for what, source, table, places in (
        ("before", session.before, work.before, firsts),
        ("after", session.after, work.after, lasts),
    ):
        _fetch(session, work, (what, source, table), places)
    places = [each.last for each in mixed if each.last is not None]
    query = f"SELECT DISTINCT xmin::text FROM ONLY {work.after.sql} WHERE ctid = ANY(%s::tid[])"
    work.witnesses = frozenset(int(xid) for (xid,) in session.after.execute(query, (places,)).fetchall())
    work.deletes = True
    _note_mixed(session, work, [*made, *mixed])


def list_images(sessions: SideSessions, places: Mapping[int, Sequence[str]]) -> dict[tuple[int, str], Image]:
    """Return versions of rows by (file node, place), of the tables that are there; `places`: by file node."""
    found: dict[tuple[int, str], Image] = {}
    for node, schema, name, owner, columns in sessions.main.execute(_TABLES, (list(places),)).fetchall():
        table = f"{quote_identifier(schema)}.{quote_identifier(name)}"
        images = read_images(sessions.of(owner), table, columns, places[node])
        found |= {(node, place): image for place, image in images.items()}
    return found


def read_images(end: Any, table: str, columns: Sequence[str], places: Sequence[str]) -> dict[str, Image]:
    """Return versions of rows by their place, column by column as COPY writes them."""
    end.execute(write_pins({}, local=False).encode())
    found: dict[str, Image] = {}
    query = (
        f"COPY (SELECT ctid::text, {join_identifiers(columns)} FROM ONLY {table} WHERE ctid = ANY(%s::tid[])) TO STDOUT"
    )
    for begin in range(0, len(places), _CHUNK):
        for line in read_copy(end, query, (list(places[begin : begin + _CHUNK]),)):
            place, *values = line.removesuffix(b"\n").split(b"\t")
            found[place.decode()] = dict(zip(columns, values, strict=True))
    return found


def _fetch(session: Session, work: Work, end: tuple[str, Any, Table], places: Sequence[str]) -> None:
    what, source, table = end
    names = join_identifiers(work.columns)
    query = f"COPY (SELECT {work.read(table)} FROM ONLY {table.sql} WHERE ctid = ANY(%s::tid[])) TO STDOUT"
    for begin in range(0, len(places), _CHUNK):
        part = list(places[begin : begin + _CHUNK])
        copy_rows(source, query, session.live, f"COPY {work.name(what)} ({names}) FROM STDIN", [part])
        session.progress(f"reading {work.table.shown}", min(begin + _CHUNK, len(places)), len(places))


def _write_ideals(session: Session, work: Work, mixed: Sequence[Chain]) -> list[Chain]:
    """Write the rows that good transactions wrote, too, as these alone would have left them.

    Returns:
        Those of which a version could not be read.
    """
    if not mixed:
        return []
    columns = [*work.called.values()]
    firsts, lasts = (
        [place for place in each if place] for each in zip(*((c.first, c.last) for c in mixed), strict=True)
    )
    first = read_images(session.before, work.before.sql, columns, firsts)
    last = read_images(session.after, work.after.sql, columns, lasts)
    lines: list[bytes] = []
    lacking: list[Chain] = []
    for each in mixed:
        between = {number: session.damage.images.get((stay, each.node, at)) for number, stay, at in each.boundaries()}

        def image(number: int, chain: Chain = each, known: dict[int, Image | None] = between) -> Image | None:
            if number == 0:
                return None if chain.first is None else first.get(chain.first)
            if number == len(chain.steps):
                return None if chain.last is None else last.get(chain.last)
            return known.get(number)

        whole = all(found is not None and set(columns) <= set(found) for found in between.values())
        ideal = each.without_bad(image) if whole else None
        if not whole:
            lacking.append(each)
        elif ideal is not None:
            lines.append(b"\t".join(ideal[name] for name in columns) + b"\n")
    with session.live.cursor().copy(
        f"COPY {work.name('before')} ({join_identifiers(work.columns)}) FROM STDIN"
    ) as copy:
        for line in lines:
            copy.write(line)
    _keep(session, work, [each.last for each in lacking if each.last is not None])
    return lacking


def _note_mixed(session: Session, work: Work, mixed: Sequence[Chain]) -> None:
    """Keep the keys of rows that good transactions wrote, too, or removed: before is no state for them to have."""
    removed = [place for node, place in session.damage.removed if node == work.before.nodes[0]]
    if session.kept is None or not (mixed or removed):
        return
    ends = (
        (session.before, work.before, [*removed, *(each.first for each in mixed if each.first is not None)]),
        (session.after, work.after, [each.last for each in mixed if each.last is not None]),
    )
    key = ", ".join(f"t.{quote_identifier(name)}" for name in work.key)
    keys: set[str] = set()
    for end, table, places in ends:
        query = (
            f"SELECT encode(convert_to(ROW({key})::text, 'UTF8'), 'hex') FROM ONLY {table.sql} t "
            "WHERE ctid = ANY(%s::tid[])"
        )
        keys |= {text for (text,) in end.execute(query, (places,)).fetchall()}
    session.kept.note_between(work.before.oid, keys)


def _keep(session: Session, work: Work, places: Sequence[str]) -> None:
    """Note rows that stay, since good transactions wrote them as well; forget them in what came after."""
    if not places:
        return
    key = ", ".join(f"{quote_identifier(name)}::text" for name in work.key)
    query = f"SELECT concat_ws(',', {key}) FROM ONLY {work.after.sql} WHERE ctid = ANY(%s::tid[]) ORDER BY 1"
    keys = [text for (text,) in session.after.execute(query, (list(places),)).fetchall()]
    work.kept_rows += len(places)
    work.kept_examples = (*work.kept_examples, *keys)[:_SHOWN]
    more = ", ..." if len(keys) > _SHOWN else ""
    work.notes.append(
        f"{work.table.shown}: {len(places):,} rows that the damage made or changed were written by good transactions "
        f"meanwhile: they stay ({', '.join(keys[:_SHOWN])}{more})"
    )
