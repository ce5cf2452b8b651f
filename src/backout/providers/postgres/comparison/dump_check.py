"""The figures of a dump, and the second check of its restore, both from a separate process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model.database.dump import DumpCheck, Figures, TableContent
from backout.providers.postgres.comparison.comparer import ask, asking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.model.database.dump import Dump


Noted = tuple[tuple[TableContent, ...], Figures | None, str]
"""The tables of a snapshot with what else it holds, or () and None with why not."""


@contextmanager
def reading_figures(url: str, snapshot: str) -> Iterator[Callable[[], Noted]]:
    """Read the figures of an exported snapshot while the block runs, and give what waits for them.

    A dump without them is better than none.
    """
    with asking({"kind": "dumped", "url": url, "snapshot": snapshot}) as await_answer:
        yield lambda: _read_noted(await_answer)


def _read_noted(await_answer: Callable[[Callable[[str, int, int], None]], dict[str, Any]]) -> Noted:
    try:
        noted = await_answer(_ignore_progress)["noted"]
    except BackoutError as error:
        return (), None, error.what
    return tuple(decode_values(noted["tables"], list[TableContent])), decode_values(noted["figures"], Figures), ""


def check_rows(url: str, dump: Dump) -> DumpCheck:
    """Compare rows and large objects; the role that asks owns what was restored and has no privileges."""
    return _check_dump(url, dump, [msgspec.to_builtins(table) for table in dump.tables])


def check_catalog(url: str, dump: Dump) -> DumpCheck:
    """Compare definitions and sequences, and name the owners and privileges that are not as they were."""
    return _check_dump(url, dump, None)


def _check_dump(url: str, dump: Dump, tables: list[dict[str, Any]] | None) -> DumpCheck:
    if dump.figures is None:
        return DumpCheck()
    asked = {"kind": "restored", "url": url, "tables": tables, "figures": msgspec.to_builtins(dump.figures)}
    try:
        return decode_values(ask(asked, _ignore_progress)["compared"], DumpCheck)
    except BackoutError as error:
        return DumpCheck(failed=error.what)


def _ignore_progress(doing: str, done: int, whole: int) -> None:
    """A dump shows no progress."""
