"""The comparing process: it reads its task from standard input, and writes lines of JSON.

Connection strings come only through the pipe, never in arguments or the environment.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import msgspec

from backout.decoding import decode_json, decode_values
from backout.errors import BackoutError
from backout.model.database.comparison import Evidence, Noted, Statistics
from backout.model.database.dump import Figures, TableContent
from backout.providers.postgres.comparison.cluster import compare_cluster, note_cluster
from backout.providers.postgres.comparison.dumped import compare_catalog, compare_rows, note_dumped
from backout.providers.postgres.comparison.reading import Place, comparing
from backout.providers.postgres.comparison.undone import compare_undone


def main() -> None:
    """Do what is asked, and answer {"progress": [doing, done, of]}, then one of {"compared"}, {"noted"}, {"failed"}."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    asked = decode_json(sys.stdin.buffer.read(), dict[str, Any], what="what is to be compared")
    try:
        _say(_answer_asked(asked))
    except BackoutError as error:
        _say({"failed": [error.what, error.where, error.hint]})


def _answer_asked(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["kind"] == "note":
        return {"noted": note_cluster(asked["url"], _send_progress, own=asked["own"])}
    if asked["kind"] == "dumped":
        tables, figures = note_dumped(asked["url"], asked["snapshot"], _send_progress)
        return {
            "noted": {"tables": [msgspec.to_builtins(each) for each in tables], "figures": msgspec.to_builtins(figures)}
        }
    if asked["kind"] == "restored":
        figures = decode_values(asked["figures"], Figures)
        if asked["tables"] is None:
            return {"compared": msgspec.to_builtins(compare_catalog(asked["url"], figures))}
        wanted = decode_values(asked["tables"], list[TableContent])
        return {"compared": msgspec.to_builtins(compare_rows(asked["url"], wanted, figures, _send_progress))}
    if asked["kind"] == "copy":
        found = compare_cluster(
            asked["noted"],
            asked["url"],
            goes_on=asked["goes_on"] is True,
            statistics=Statistics(asked["statistics"]),
            progress=_send_progress,
        )
        return {"compared": msgspec.to_builtins(found)}
    if asked["kind"] == "undone":
        found = compare_undone(
            (asked["url"], asked["database"]),
            asked["held"],
            asked["before"],
            rescued=asked["rescued"],
            evidence=(frozenset(asked["ours"]), asked["over"], frozenset(asked["wrote"])),
            progress=_send_progress,
        )
        return {"compared": msgspec.to_builtins(found)}
    told, known = asked["evidence"], asked["noted"]
    written = None if told["written"] is None else frozenset(told["written"])
    between, removed = (
        {int(oid): frozenset(keys) for oid, keys in told[name].items()} for name in ("between", "removed")
    )
    evidence = Evidence(
        frozenset(told["damage"]),
        frozenset(told["ours"]),
        written,
        overwrites=told["overwrites"] is True,
        between=between,
        over={int(oid): keys for oid, keys in told["over"].items()},
        removed=removed,
        deleted={int(oid): int(count) for oid, count in told["deleted"].items()},
        put_back={int(oid): tuple(parts) for oid, parts in told["put_back"].items()},
        made=told["made"],
        renumbered={
            int(oid): {int(old): int(new) for old, new in numbers.items()}
            for oid, numbers in told["renumbered"].items()
        },
    )
    before = Noted(**{**known, "full": set(known["full"])}) if known is not None else None
    place = Place(asked["url"], asked["database"], asked["before"], asked["after"])
    with comparing(place, evidence, _send_progress) as comparer:
        return {"compared": msgspec.to_builtins(comparer.compare(before)), "definitions": comparer.definitions()}


def _send_progress(doing: str, done: int, whole: int) -> None:
    _say({"progress": [doing, done, whole]})


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
