"""The process that compares: it is told what on its standard input, and writes lines of JSON.

Connection strings come by the pipe alone: neither arguments nor the environment hold one.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from typing import Any

from backout.decoding import decode_json
from backout.errors import BackoutError
from backout.model.comparison import Evidence, Noted
from backout.providers.postgres.comparison.cluster import compare_cluster, note_cluster
from backout.providers.postgres.comparison.reading import Place, comparing


def main() -> None:
    """Do what is asked, and answer {"progress": [doing, done, of]}, then one of {"compared"}, {"noted"}, {"failed"}."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks, and who ends this one
    asked = decode_json(sys.stdin.buffer.read(), dict[str, Any], what="what is to be compared")
    try:
        _say(_answer(asked))
    except BackoutError as error:
        _say({"failed": [error.what, error.where, error.hint]})


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["kind"] == "note":
        return {"noted": note_cluster(asked["url"], _progress)}
    if asked["kind"] == "copy":
        found = compare_cluster(asked["noted"], asked["url"], goes_on=asked["goes_on"] is True, progress=_progress)
        return {"compared": asdict(found)}
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
    )
    before = Noted(**{**known, "full": set(known["full"])}) if known is not None else None
    place = Place(asked["url"], asked["database"], asked["before"], asked["after"])
    with comparing(place, evidence, _progress) as comparer:
        return {"compared": asdict(comparer.compare(before))}


def _progress(doing: str, done: int, whole: int) -> None:
    _say({"progress": [doing, done, whole]})


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
