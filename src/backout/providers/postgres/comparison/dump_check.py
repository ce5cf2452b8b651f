"""The figures of a dump, and the second check of its restore, both from a separate process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model.database.dump import DumpCheck, Figures, TableContent
from backout.providers.postgres.comparison.comparer import ask

if TYPE_CHECKING:
    from backout.model.database.dump import Dump


def read_figures(url: str, snapshot: str) -> tuple[tuple[TableContent, ...], Figures | None, str]:
    """Return the tables of an exported snapshot with what else it holds, or () and None with why not.

    A dump without them is better than none.
    """
    try:
        noted = ask({"kind": "dumped", "url": url, "snapshot": snapshot}, _ignore_progress)["noted"]
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
