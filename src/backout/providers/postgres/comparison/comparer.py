"""Ports RowComparer and CopyComparer: the process of the second check is started, and what it says is heard."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter, defaultdict
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from backout.decoding import decode_json
from backout.errors import BackoutError
from backout.model.comparison import Comparison, TableComparison
from backout.private import private_folder
from backout.providers.child_environment import bare_environment, own_module
from backout.providers.postgres.comparison.reading import Place, comparing
from backout.providers.postgres.owner_session import inside
from backout.providers.postgres.side_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from backout.model.comparison import Evidence

WRITERS: Final = "writers"
"""The file in which a rescue keeps the ids under which it wrote, one a line."""
BETWEEN: Final = "between"
"""The file in which it keeps the keys of rows that good transactions wrote between bad ones, by table."""
COMMITTED: Final = "committed"
"""The file that holds the numbers of its entries whose transactions were committed."""
_MODULE: Final = "backout.providers.postgres.comparison.process"


class PostgresComparer:
    """Compares one database of the live server with side instances.

    Args:
        url: returns the connection string of an administrator; it is never shown.
    """

    def __init__(self, url: Callable[[], str], database: str) -> None:
        self._url = url
        self._database = database

    def note(
        self, evidence: Evidence, before: str, after: str, into: Path, progress: Callable[[str, int, int], None]
    ) -> None:
        """Keep in a file which rows others have written since, unless it is there: a rescue may be under way."""
        if into.exists():
            return
        with comparing(Place(self._url(), self._database, before, after), evidence, progress) as comparer:
            noted = comparer.note()
        private_folder(into.parent)
        write_whole(into, json.dumps({**asdict(noted), "full": sorted(noted.full)}))

    def compare(  # noqa: PLR0913 - each is one thing to say
        self,
        evidence: Evidence,
        before: str,
        after: str,
        *,
        noted: Path,
        kept: Path,
        progress: Callable[[str, int, int], None],
    ) -> Comparison:
        """Compare; under which ids the rescue wrote stands beside what it kept."""
        writers = kept / WRITERS
        if writers.exists():
            ours = frozenset(int(line) for line in writers.read_text(encoding="ascii").split())
            evidence = replace(evidence, ours=ours)
        if (kept / BETWEEN).exists():
            told = decode_json((kept / BETWEEN).read_bytes(), dict[str, list[str]], what=BETWEEN)
            evidence = replace(evidence, between={int(oid): frozenset(keys) for oid, keys in told.items()})
        evidence = _with_claims(evidence, kept)
        known = None
        if noted.exists():
            known = decode_json(noted.read_bytes(), dict[str, Any], what="what was noted before", where=str(noted))
        found = self._asked(evidence, (before, after), known, progress)["compared"]
        return _comparison(found)

    def _asked(
        self,
        evidence: Evidence,
        sides: tuple[str, str],
        noted: dict[str, Any] | None,
        progress: Callable[[str, int, int], None],
    ) -> dict[str, Any]:
        """Return what the process says. Raises as `ask`."""
        written = evidence.written
        asked = {
            "kind": "rows",
            "url": self._url(),
            "database": self._database,
            "before": sides[0],
            "after": sides[1],
            "noted": noted,
            "evidence": {
                "damage": sorted(evidence.damage),
                "ours": sorted(evidence.ours),
                "written": None if written is None else sorted(written),
                "overwrites": evidence.overwrites,
                **{
                    name: {oid: sorted(keys) for oid, keys in keyed.items()}
                    for name, keyed in (("between", evidence.between), ("removed", evidence.removed))
                },
                "over": {oid: dict(keys) for oid, keys in evidence.over.items()},
                "deleted": dict(evidence.deleted),
            },
        }
        return ask(asked, progress)


class PostgresCopies:
    """Compares what a whole cluster held with what one holds, each hashing its own rows.

    Args:
        url: returns the connection string of an administrator of the live server; it is never shown.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url

    def note(self, dsn: str, into: Path, progress: Callable[[str, int, int], None]) -> None:
        """Keep in a file what a server holds now.

        Args:
            dsn: of a side instance; "" for the live server.
        """
        asked = {"kind": "note", "url": inside(dsn) if dsn else self._url()}
        noted = ask(asked, progress)["noted"]
        private_folder(into.parent)
        write_whole(into, json.dumps(noted))

    def compare(self, noted: Path, *, goes_on: bool, progress: Callable[[str, int, int], None]) -> Comparison:
        """Return how the live server stands to what was noted; `goes_on`: whether it goes on from that."""
        if not noted.exists():
            raise BackoutError("what it held was not noted before", where=noted.name)
        known = decode_json(noted.read_bytes(), dict[str, Any], what="what was noted before", where=str(noted))
        asked = {"kind": "copy", "url": self._url(), "noted": known, "goes_on": goes_on}
        return _comparison(ask(asked, progress)["compared"])


def ask(asked: Mapping[str, Any], progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Let the process of the second check answer, and return the last line that it wrote.

    Raises:
        BackoutError: it could not compare, or ended without a word.
    """
    last: dict[str, Any] = {}
    process = subprocess.Popen(
        own_module(_MODULE),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=bare_environment(),
    )
    with process:
        assert process.stdin is not None  # noqa: S101 it is a pipe
        assert process.stdout is not None  # noqa: S101 same
        assert process.stderr is not None  # noqa: S101 same
        said: list[bytes] = []
        hearing = threading.Thread(target=lambda: said.append(process.stderr.read()), daemon=True)  # type: ignore[union-attr]
        hearing.start()
        try:
            process.stdin.write(json.dumps(asked).encode())
            process.stdin.close()
            for line in process.stdout:
                last = decode_json(line, dict[str, Any], what="the second check's answer")
                if "progress" in last:
                    progress(*last["progress"])
        except BrokenPipeError:
            pass
        finally:
            if process.poll() is None and "progress" in last:
                process.kill()
    if "failed" in last:
        what, where, hint = last["failed"]
        raise BackoutError(f"the second check could not be made: {what}", where=where, hint=hint)
    if "compared" not in last and "noted" not in last:
        hearing.join()
        tail = b"".join(said).decode(errors="replace").strip().splitlines()[-1:]
        raise BackoutError(f"the process of the second check has ended: {' '.join(tail)[:200]}", where="database")
    return last


def _comparison(found: Mapping[str, Any]) -> Comparison:
    tables = (
        TableComparison(**{**each, "examples": tuple(each["examples"]), "columns": tuple(each["columns"])})
        for each in found["tables"]
    )
    return Comparison(tuple(tables), tuple(found["behind"]))


def _with_claims(evidence: Evidence, kept: Path) -> Evidence:
    """Return the evidence with what the rescue's committed entries say of rows that others had written."""
    over: defaultdict[int, dict[str, int]] = defaultdict(dict)
    removed: defaultdict[int, set[str]] = defaultdict(set)
    deleted: Counter[int] = Counter()
    path = kept / COMMITTED
    for name in dict.fromkeys(path.read_text(encoding="ascii").split()) if path.exists() else ():
        told = decode_json((kept / f"{name}.json").read_bytes(), dict[str, Any], what="what a rescue kept")
        if "over" in told:
            over[int(told["oid"])].update(told["over"])
        if "removed" in told:
            removed[int(told["oid"])].update(told["removed"])
        deleted.update({int(oid): int(count) for oid, count in told.get("deleted", {}).items()})
    gone = {oid: frozenset(keys) for oid, keys in removed.items()}
    return replace(evidence, over=dict(over), removed=gone, deleted=dict(deleted))
