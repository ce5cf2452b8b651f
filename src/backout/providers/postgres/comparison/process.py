"""The process that compares: it is told what on its standard input, and writes lines of JSON.

Connection strings come by the pipe alone: neither arguments nor the environment hold one.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from backout.decoding import decode_json
from backout.errors import BackoutError
from backout.model.comparison import Evidence, Noted
from backout.providers.postgres.comparison.reading import Comparer, Ends
from backout.providers.postgres.schema import meant


def main() -> None:
    """Do what is asked, and answer {"progress": [doing, done, of]}, then {"noted": ...} or {"compared": ...}."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks, and who ends this one
    asked = decode_json(sys.stdin.buffer.read(), dict[str, Any], what="what is to be compared")
    try:
        _say(_answer(asked))
    except BackoutError as error:
        _say({"failed": [error.what, error.where, error.hint]})


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    import psycopg  # noqa: PLC0415 - costs 0.1 s

    told = asked["evidence"]
    written = None if told["written"] is None else frozenset(told["written"])
    between = {int(oid): frozenset(keys) for oid, keys in told["between"].items()}
    evidence = Evidence(
        frozenset(told["damage"]), frozenset(told["ours"]), written, told["overwrites"] is True, between
    )
    try:
        with ExitStack() as stack:
            ends = Ends.opened(stack, asked["database"], asked["before"], asked["after"], asked["url"])
            comparer = Comparer(ends, evidence, lambda *said: _say({"progress": said}))
            if asked["job"] == "note":
                noted = comparer.note()
                return {"noted": {"rows": noted.rows, "full": sorted(noted.full), "xid": noted.xid}}
            known = asked["noted"]
            before = Noted(known["rows"], set(known["full"]), known["xid"]) if known is not None else None
            return {"compared": asdict(comparer.compare(before))}
    except psycopg.Error as error:
        raise meant(error, asked["url"], "the second check") from None  # its text may quote the connection string


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
