"""Ports RowComparer and CopyComparer: start the process of the second check and read its results."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.decoding import decode_json
from backout.errors import BackoutError
from backout.model.database.comparison import Comparison, Evidence, Statistics, TableComparison
from backout.private import make_private_folder
from backout.providers.child import tie_to_parent
from backout.providers.child_environment import make_bare_environment, make_module_command
from backout.providers.postgres.comparison.reading import Place, comparing
from backout.providers.postgres.comparison.renumbered import read_numbers
from backout.providers.postgres.comparison.undone import note_tables_again
from backout.providers.postgres.restore.side_files import write_whole
from backout.providers.postgres.server.owner_session import make_inside_dsn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Progress = Callable[[str, int, int], None]

WRITERS: Final = "writers"
"""The file in which a rescue keeps the ids under which it wrote, one a line."""
BETWEEN: Final = "between"
"""The file in which it keeps the keys of rows that good transactions wrote between bad ones, by table."""
AWAY: Final = "away"
"""The file in which it keeps hashes of the keys of rows that stay away, since others removed them, by table."""
COMMITTED: Final = "committed"
"""The file that holds the numbers of its entries whose transactions were committed."""
_HELD, _RESCUED = ".held", ".rescued"
"""What is noted beside the note of a rescue, for the check of its undo."""
PROCESS: Final = "backout.providers.postgres.comparison.process"


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
            held = comparer.note_tables(noted)
        make_private_folder(into.parent)
        write_whole(into.with_suffix(_HELD), json.dumps(held))
        write_whole(into, json.dumps({**dataclasses.asdict(noted), "full": sorted(noted.full)}))

    def compare(
        self,
        evidence: Evidence,
        before: str,
        after: str,
        *,
        noted: Path,
        kept: Path,
        progress: Callable[[str, int, int], None],
    ) -> Comparison:
        """Compare; the ids under which the rescue wrote are stored beside its records."""
        writers = kept / WRITERS
        if writers.exists():
            ours = frozenset(int(line) for line in writers.read_text(encoding="ascii").split())
            evidence = replace(evidence, ours=ours)
        if (kept / BETWEEN).exists():
            told = decode_json((kept / BETWEEN).read_bytes(), dict[str, list[str]], what=BETWEEN)
            evidence = replace(evidence, between={int(oid): frozenset(keys) for oid, keys in told.items()})
        evidence = replace(_add_claims(evidence, kept), renumbered=dict(read_numbers(kept)))
        known = None
        if noted.exists():
            known = decode_json(noted.read_bytes(), dict[str, Any], what="what was noted before", where=str(noted))
        found = self._ask_process(evidence, (before, after), known, progress)
        write_whole(noted.with_suffix(_RESCUED), json.dumps(found["definitions"]))
        return _make_comparison(found["compared"])

    def note_undo(self, noted: Path, into: Path) -> None:
        """Keep in a file what is there before an undo writes, unless it is there: the undo may be under way.

        Args:
            noted: what `note` kept before the rescue.
        """
        if not into.exists():
            write_whole(into, json.dumps(note_tables_again(self._url(), self._database, _pack_held(noted))))

    def compare_undone(
        self, noted: Path, before: Path, kept: Path, progress: Callable[[str, int, int], None]
    ) -> Comparison:
        """Compare the live database after an undo with its state before the rescue.

        Args:
            noted, kept: as of `compare`.
            before: what `note_undo` kept.

        Raises:
            BackoutError: nothing could be compared.
        """
        if not before.exists():
            raise BackoutError("what was there before the undo was not noted", where=before.name)
        writers, rescued = kept / WRITERS, noted.with_suffix(_RESCUED)
        asked = {
            "kind": "undone",
            "url": self._url(),
            "database": self._database,
            "held": _pack_held(noted),
            "before": decode_json(before.read_bytes(), dict[str, str], what="what was noted before the undo"),
            "rescued": decode_json(rescued.read_bytes(), dict[str, str]) if rescued.exists() else None,
            "ours": [int(line) for line in writers.read_text(encoding="ascii").split()] if writers.exists() else [],
            "over": {str(oid): dict(keys) for oid, keys in _add_claims(Evidence(frozenset()), kept).over.items()},
            "wrote": sorted({str(told["table"]) for told in _read_committed(kept)}),
        }
        return _make_comparison(ask(asked, progress)["compared"])

    def _ask_process(
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
                "put_back": {oid: list(parts) for oid, parts in evidence.put_back.items()},
                "made": {name: dict(told) for name, told in evidence.made.items()},
                "renumbered": {oid: dict(numbers) for oid, numbers in evidence.renumbered.items()},
            },
        }
        return ask(asked, progress)


class PostgresCopies:
    """Compares the former and the present content of a whole cluster, each server hashing its own rows.

    Args:
        url: returns the connection string of an administrator of the live server; it is never shown.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url

    def note(self, dsn: str, into: Path, progress: Callable[[str, int, int], None], *, own: str = "") -> None:
        """Keep in a file what a server holds now.

        Args:
            dsn: of a side instance or a branch; "" for the live server.
            own: the application's database, as of `note_cluster`.
        """
        asked = {"kind": "note", "url": make_inside_dsn(dsn) if dsn else self._url(), "own": own}
        noted = ask(asked, progress)["noted"]
        make_private_folder(into.parent)
        write_whole(into, json.dumps(noted))

    def compare(
        self,
        noted: Path,
        *,
        goes_on: bool,
        progress: Callable[[str, int, int], None],
        statistics: Statistics = Statistics.CONTINUED,
    ) -> Comparison:
        """Compare the live server with what was noted; `goes_on`, `statistics`: as of `compare_cluster`.

        Raises:
            BackoutError: nothing was noted before, or it could not be compared.
        """
        if not noted.exists():
            raise BackoutError("what it held was not noted before", where=noted.name)
        known = decode_json(noted.read_bytes(), dict[str, Any], what="what was noted before", where=str(noted))
        asked = {"kind": "copy", "url": self._url(), "noted": known, "goes_on": goes_on, "statistics": statistics}
        return _make_comparison(ask(asked, progress)["compared"])


def ask(asked: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Let the process of the second check answer, and return the last line that it wrote.

    Raises:
        BackoutError: it could not compare, or ended without a word.
    """
    with asking(asked) as await_answer:
        return await_answer(progress)


@contextmanager
def asking(asked: Mapping[str, Any]) -> Iterator[Callable[[Progress], dict[str, Any]]]:
    """Start the process of the second check, and give what waits for its answer; the end of the block is its end.

    The answer raises as that of `ask`.
    """
    with start_process() as process:
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):  # it has ended: its answer says why
                process.stdin.write(json.dumps(asked).encode())
                process.stdin.close()
            yield lambda progress: _await_answer(process, progress)
        finally:
            process.kill()


def start_process() -> subprocess.Popen[bytes]:
    """Start the process of the second check, which shares nothing with this one, and ends with it."""
    return subprocess.Popen(
        tie_to_parent(make_module_command(PROCESS), signal.SIGTERM),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=make_bare_environment(),
    )


def _await_answer(process: subprocess.Popen[bytes], progress: Progress) -> dict[str, Any]:
    assert process.stdout is not None
    assert process.stderr is not None
    last: dict[str, Any] = {}
    said: list[bytes] = []
    stderr = process.stderr
    hearing = threading.Thread(target=lambda: said.append(stderr.read()), daemon=True)
    hearing.start()
    for line in process.stdout:
        last = decode_json(line, dict[str, Any], what="the second check's answer")
        if "progress" in last:
            progress(*last["progress"])
    if "failed" in last:
        what, where, hint = last["failed"]
        raise BackoutError(f"the second check could not be made: {what}", where=where, hint=hint)
    if "compared" not in last and "noted" not in last:
        hearing.join()
        tail = b"".join(said).decode(errors="replace").strip().splitlines()[-1:]
        raise BackoutError(f"the process of the second check has ended: {' '.join(tail)[:200]}", where="database")
    return last


def _pack_held(noted: Path) -> dict[str, Any]:
    path = noted.with_suffix(_HELD)
    if not path.exists():
        raise BackoutError("what was there before the rescue was not noted", where=path.name)
    return decode_json(path.read_bytes(), dict[str, Any], what="what was noted before the rescue", where=str(path))


def _make_comparison(found: Mapping[str, Any]) -> Comparison:
    tables = (
        TableComparison(**{**each, "examples": tuple(each["examples"]), "columns": tuple(each["columns"])})
        for each in found["tables"]
    )
    return Comparison(tuple(tables), tuple(found["behind"]))


def _add_claims(evidence: Evidence, kept: Path) -> Evidence:
    """Return the evidence with what the rescue's committed entries say of rows that others had written."""
    over: defaultdict[int, dict[str, int]] = defaultdict(dict)
    removed: defaultdict[int, set[str]] = defaultdict(set)
    put_back: defaultdict[int, tuple[str, ...]] = defaultdict(tuple)
    made: dict[str, dict[str, object]] = {}
    deleted: Counter[int] = Counter()
    if (kept / AWAY).exists():
        for oid, parts in decode_json((kept / AWAY).read_bytes(), dict[str, list[str]], what=AWAY).items():
            put_back[int(oid)] += tuple(parts)
    for told in _read_committed(kept):
        if "over" in told:
            over[int(told["oid"])].update(told["over"])
        if "removed" in told:
            removed[int(told["oid"])].update(told["removed"])
        if "put_back" in told:
            put_back[int(told["oid"])] += (str(told["put_back"]),)
        if "made" in told:
            made[str(told["table"])] = told["made"]
        deleted.update({int(oid): int(count) for oid, count in told.get("deleted", {}).items()})
    gone = {oid: frozenset(keys) for oid, keys in removed.items()}
    return replace(evidence, over=dict(over), removed=gone, deleted=dict(deleted), put_back=dict(put_back), made=made)


def _read_committed(kept: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a rescue whose transactions were committed."""
    path = kept / COMMITTED
    for name in dict.fromkeys(path.read_text(encoding="ascii").split()) if path.exists() else ():
        yield decode_json((kept / f"{name}.json").read_bytes(), dict[str, Any], what="what a rescue kept")
