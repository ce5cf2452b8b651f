"""Rows that a rescue leaves as they are: they were written since, or they cannot be written."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.database.rescue import LeftOut
from backout.providers.postgres.schema.rowsql import join_identifiers, write_key_literals, write_key_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.database.rescue import TableRescue
    from backout.providers.postgres.rescue.scope import Session, Work

SHOWN: Final = 5
"""The most keys shown."""
_MOST: Final = 100
"""The same, where each has to be checked."""


def list_unclear_rows(session: Session, work: Work) -> Iterator[LeftOut]:
    """Yield how many rows written since hold the damaged value: whether set to it anew, or only carried along."""
    if not work.unclear or work.refused:
        return
    live = session.of(work.table.owner).live
    texts = f"{write_key_text(work.key, 'l')}, {write_key_literals(work.key, 'l')}"
    keys = live.execute(f"SELECT {texts}, count(*) OVER () {work.unclear} ORDER BY 1 LIMIT {_MOST}").fetchall()
    if not keys:
        return
    count = int(keys[0][2])
    more = ", ..." if count > len(keys) else ""
    reason = (
        "others wrote them since, and they hold the damaged value: whether it was set anew or only carried along "
        f"cannot be determined: {', '.join(shown for shown, *_ in keys)}{more}"
    )
    values = ", ".join(f"({literal})" for _, literal, _ in keys)
    query = f"SELECT * FROM ONLY {work.table.sql} WHERE ({join_identifiers(work.key)}) IN ({values});"
    yield LeftOut(f"{count:,} rows of table {work.table.shown}", reason, query, seen=False)


def count_conflicts(session: Session, work: Work, what: str, alias: str) -> TableRescue:
    """Return the report with the rows of `what` counted as conflicts, and some of their keys."""
    query = f"SELECT {write_key_text(work.key, alias)}, count(*) OVER () {what} LIMIT {SHOWN}"
    found = session.live.execute(query).fetchall()
    if not found:
        return work.report
    report, shown = work.report, [key for key, _ in found]
    return replace(report, conflicts=report.conflicts + int(found[0][1]), examples=(*report.examples, *shown)[:SHOWN])
