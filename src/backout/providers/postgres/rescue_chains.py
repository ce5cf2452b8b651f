"""The rows of several damages at once: each by the places it lay at, from its first version to its last one.

Where good transactions wrote a row between bad ones, what it would be without the bad ones is put together from its
versions; where they did not, its first version is what comes back.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.libpq import identifier
from backout.providers.postgres.pinned import pins
from backout.providers.postgres.rowsql import listed, pipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.chains import Chain, Image
    from backout.providers.postgres.definitions import Table
    from backout.providers.postgres.rescue_scope import Session, Work

_CHUNK: Final = 10_000
_SHOWN: Final = 5


def chains_of(session: Session, work: Work) -> tuple[Chain, ...]:
    """Return the rows of a table that the damage wrote to."""
    nodes = {*work.before.nodes, *work.after.nodes} - {0}
    return tuple(each for each in session.damage.chains or () if each.node in nodes)


def load_chains(session: Session, work: Work) -> None:
    """Bring the rows into the temporary tables: as they would be without the damage, and as they were after it."""
    followed = chains_of(session, work)
    made = [each for each in followed if each.first is None and each.steps[0].bad and each.mixed]
    _keep(session, work, [each.last for each in made if each.last is not None])
    followed = tuple(each for each in followed if each not in made)
    mixed = [each for each in followed if each.mixed]
    lacking = _write_ideals(session, work, mixed)
    followed = tuple(each for each in followed if each not in lacking)
    firsts = [each.first for each in followed if not each.mixed and each.first is not None]
    lasts = [each.last for each in followed if each.last is not None]
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


def read_images(end: Any, table: Table, columns: Sequence[str], places: Sequence[str]) -> dict[str, Image]:
    """Return versions of rows by their place, column by column as COPY writes them."""
    end.execute(pins({}, local=False).encode())
    found: dict[str, Image] = {}
    query = f"COPY (SELECT ctid::text, {listed(columns)} FROM ONLY {table.sql} WHERE ctid = ANY(%s::tid[])) TO STDOUT"
    for begin in range(0, len(places), _CHUNK):
        with end.cursor().copy(query, (list(places[begin : begin + _CHUNK]),)) as copy:
            content = b"".join(copy)
        for line in content.split(b"\n")[:-1]:
            place, *values = line.split(b"\t")
            found[place.decode()] = dict(zip(columns, values, strict=True))
    return found


def _fetch(session: Session, work: Work, end: tuple[str, Any, Table], places: Sequence[str]) -> None:
    what, source, table = end
    names, there = listed(work.columns), listed([*work.called.values()])
    query = f"COPY (SELECT {there} FROM ONLY {table.sql} WHERE ctid = ANY(%s::tid[])) TO STDOUT"
    for begin in range(0, len(places), _CHUNK):
        part = list(places[begin : begin + _CHUNK])
        pipe(source, query, session.live, f"COPY {work.name(what)} ({names}) FROM STDIN", [part])
        session.progress(f"reading {work.table.shown}", min(begin + _CHUNK, len(places)), len(places))


def _write_ideals(session: Session, work: Work, mixed: Sequence[Chain]) -> list[Chain]:
    """Write the rows that good transactions wrote, too, as these alone would have left them.

    Returns:
        Those of which a version could not be read.
    """
    if not mixed:
        return []
    columns = [*work.called.values()]
    first = read_images(session.before, work.before, columns, [each.first for each in mixed if each.first is not None])
    last = read_images(session.after, work.after, columns, [each.last for each in mixed if each.last is not None])
    lines: list[bytes] = []
    lacking: list[Chain] = []
    for each in mixed:
        between = {number: session.damage.images.get((stop, each.node, at)) for number, stop, at in each.boundaries()}

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
    with session.live.cursor().copy(f"COPY {work.name('before')} ({listed(work.columns)}) FROM STDIN") as copy:
        for line in lines:
            copy.write(line)
    _keep(session, work, [each.last for each in lacking if each.last is not None])
    return lacking


def _note_mixed(session: Session, work: Work, mixed: Sequence[Chain]) -> None:
    """Keep the keys of rows that good transactions wrote, too, or removed: before is no state for them to have."""
    nodes = {*work.before.nodes} - {0}
    removed = [place for node, place in session.damage.removed if node in nodes]
    if session.kept is None or not (mixed or removed):
        return
    ends = (
        (session.before, work.before, [*removed, *(each.first for each in mixed if each.first is not None)]),
        (session.after, work.after, [each.last for each in mixed if each.last is not None]),
    )
    key = ", ".join(f"t.{identifier(name)}" for name in work.key)
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
    key = ", ".join(f"{identifier(name)}::text" for name in work.key)
    query = f"SELECT concat_ws(',', {key}) FROM ONLY {work.after.sql} WHERE ctid = ANY(%s::tid[]) ORDER BY 1"
    keys = [text for (text,) in session.after.execute(query, (list(places),)).fetchall()]
    work.kept_rows += len(places)
    work.kept_examples = (*work.kept_examples, *keys)[:_SHOWN]
    more = ", ..." if len(keys) > _SHOWN else ""
    work.notes.append(
        f"{work.table.shown}: {len(places):,} rows that the damage made or changed were written by good transactions "
        f"meanwhile: they stay ({', '.join(keys[:_SHOWN])}{more})"
    )
