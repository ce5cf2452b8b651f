"""The old rows to compare where no WAL shows which were written: those of the keys that the damage wrote or deleted."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.providers.postgres.rescue.scope import write_key_hash
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import copy_rows, join_identifiers, match_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from backout.providers.postgres.rescue.scope import Session, Work

_CHUNK: Final = 10_000
_BUCKETS: Final = 4096
_AT_ONCE: Final = 512
_Key = tuple[str, ...]


def load_by_key(session: Session, work: Work) -> None:
    """Fetch the old rows: those that `after` has under the damage's ids, and those whose key is gone in `after`.

    Where others wrote between the two, it is unknown who removed a missing row: it stays gone, and is reported.
    """
    texts = ", ".join(f"{quote_identifier(name)}::text" for name in work.key)
    with session.live.transaction(), session.live.cursor("backout_keys") as cursor:
        cursor.execute(f"SELECT {texts} FROM {work.name('after')}")
        changed: list[_Key] = cursor.fetchall()
    _fetch(session, work, changed)
    gone = 0
    for keys in _list_gone(session, work) if work.deletes else ():
        gone += len(keys)
        if session.damage.exact:
            _fetch(session, work, keys)
    if gone and not session.damage.exact:
        left = f"{gone:,} rows are gone since, and others wrote at that time: they are left as they are"
        work.report = replace(work.report, left=left)


def _fetch(session: Session, work: Work, wanted: Sequence[_Key]) -> None:
    names, keys = join_identifiers(work.columns), join_identifiers(work.key)
    types = {column.name: column.type for column in work.table.columns}
    arrays = ", ".join(f"%s::text[]::{types[name]}[]" for name in work.key)
    rows = ", ".join(f"t.{quote_identifier(name)}" for name in work.called.values())
    query = (
        f"COPY (SELECT {rows} FROM ONLY {work.before.sql} t JOIN unnest({arrays}) AS k({keys}) "
        f"ON {match_keys(work.key, 't', 'k')}) TO STDOUT"
    )
    for begin in range(0, len(wanted), _CHUNK):
        values = [list(each) for each in zip(*wanted[begin : begin + _CHUNK], strict=True)]
        copy_rows(session.before, query, session.live, f"COPY {work.name('before')} ({names}) FROM STDIN", values)
        session.progress(f"reading {work.table.shown}", min(begin + _CHUNK, len(wanted)), len(wanted))


def _list_gone(session: Session, work: Work) -> Iterator[list[_Key]]:
    """Yield the keys that before has and after has not: only parts of the table that differ are read, one by one."""
    bucket = f"({write_key_hash(work.key)} & {_BUCKETS - 1})"
    counted = f"SELECT {bucket}, count(*), sum({write_key_hash(work.key)}) FROM ONLY {{}} GROUP BY 1"
    starts, ends = (
        {number: counts for number, *counts in source.execute(counted.format(table.sql))}
        for source, table in ((session.before, work.before), (session.after, work.after))
    )
    differ = sorted(number for number in starts if starts[number] != ends.get(number))
    texts = ", ".join(f"{quote_identifier(name)}::text" for name in work.key)
    query = f"SELECT {texts} FROM ONLY {{}} WHERE {bucket} = ANY(%s)"
    for begin in range(0, len(differ), _AT_ONCE):
        part = [differ[begin : begin + _AT_ONCE]]

        def keys(source: Any, table: str, part: list[list[int]] = part) -> set[_Key]:
            return set(source.execute(query.format(table), part))

        gone = keys(session.before, work.before.sql) - keys(session.after, work.after.sql)
        if gone:
            yield sorted(gone)
