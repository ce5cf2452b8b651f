"""Finds transactions in WAL with pg_waldump: their COMMIT records, and the relations that they wrote to.

It reads archived segments, so it needs no live server and puts no load on one. Source: PostgreSQL 18,
src/backend/access/rmgrdesc/xactdesc.c (COMMIT, COMMIT_PREPARED with the prepared transaction's own id, `subxacts`,
`dropped stats` as KIND/DATABASE/OBJECT where kind 2 is a relation, `inval msgs`) and pg_waldump's own page.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.decoding import parse_moment
from backout.errors import BackoutError
from backout.model.database.recovery import Commit
from backout.model.database.wal import find_segment_begin, parse_lsn, precedes, show_lsn
from backout.model.names import parse_segment, parse_wal_file
from backout.providers.child import is_running
from backout.providers.postgres.provenance.wal_chains import Follower
from backout.providers.postgres.provenance.wal_removed import Removals, has_removals, make_reader, read_stored_row
from backout.providers.postgres.provenance.wal_rows import list_transactions
from backout.providers.postgres.provenance.wal_writes import list_row_writes
from backout.providers.postgres.restore.side_files import read_boot_id, read_text, write_whole
from backout.providers.postgres.server import own_files
from backout.providers.postgres.server.template import make_tool_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from backout.model.database.chains import Bad, Followed
    from backout.model.database.removed import Sought, StoredRow
    from backout.model.database.transactions import Transaction
    from backout.model.database.wal import WalSpan
    from backout.ports import Backups
    from backout.providers.postgres.provenance.wal_writes import RowWrite
    from backout.providers.postgres.server.binaries import Binaries

_COMMIT: Final = re.compile(
    r"tx:\s*(?P<tx>\d+), lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+),.*?desc: COMMIT(?:_PREPARED (?P<own>\d+):)? "
    r"(?P<at>\d+-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC(?P<rest>.*)"
)
_SUBXIDS: Final = re.compile(r"; subxacts:((?: \d+)+)")
_DROPPED: Final = re.compile(r"; dropped stats:((?: \d+/\d+/\d+)+)")
_INVALIDATED: Final = re.compile(r"catcache (\d+)")
_BLOCK: Final = re.compile(r"blkref #\d+: rel \d+/(\d+)/(\d+) ")
_AT: Final = re.compile(r", lsn: ([0-9A-F]+/[0-9A-F]+),")
_OF_ROWS: Final = ("Heap", "Heap2", "Storage", "Transaction")
_TOLD_EVERY: Final = 20_000
_FIRST_LOOK: Final = 16 << 20
"""So far from the end the last record is looked for first."""
_RUNNING: Final = re.compile(r"lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+),.*?desc: RUNNING_XACTS nextXid (?P<next>\d+) ")
_ROWS: Final = frozenset({"INSERT", "UPDATE", "HOT_UPDATE", "DELETE", "MULTI_INSERT"})
_TUPLES: Final = re.compile(r"ntuples: (\d+)")
_MADE: Final = re.compile(r"desc: CREATE\w* .*\d+/(\d+)\s*$")
"""Of a record of the resource manager Database; version 15 has two ways to make one."""
_RELATION: Final = "2"
_STATISTICS: Final = frozenset({"65", "57", "56"})
"""What ANALYZE makes others forget in version 18: pg_statistic, and the counts in pg_class."""
_NO_STATISTICS: Final = "65"
_END: Final = re.compile(r"invalid record length|got 0|could not find a valid record|wanted|incorrect prev-link|zero")
_TORN: Final = re.compile(r"error in WAL record at ([0-9A-F]+/[0-9A-F]+): incorrect resource manager data checksum")
_NOT_YET: Final = re.compile(
    r"(?:unexpected pageaddr|invalid magic number|invalid info bits) \S+ in (?:WAL|log) segment ([0-9A-F]{24}), "
    r"(?:LSN \S+, )?offset (\d+)"
)
FENCE_MESSAGE: Final = "fence of backout"
"""What a transaction that raises or opens a fence says first, in the WAL alone: its changes to roles are no one's."""
_PAGE: Final = 8192
_PAGE_HEADERS: Final = frozenset({24, 40})
"""Of an ordinary page of WAL, and of the first one in a segment."""
_LAST: Final = 32 << 20
_ARRIVING: Final = "arriving-"
_FEW: Final = 8
"""One pass for each id is faster than looking at every record up to this many."""


class WalSearch:
    """Port WalReader on archived WAL, fetched into a folder as needed.

    Args:
        folder: where segments are put; those already there are not fetched again.
    """

    def __init__(self, binaries: Binaries, backups: Backups, folder: Path) -> None:
        self._binaries = binaries
        self._backups = backups
        self._folder = folder
        self._timeline = 0
        self._of = ""

    def history(self) -> dict[int, tuple[tuple[int, int], ...]]:
        """Return of each timeline but the first the ones before it, and the position at which each was left."""
        self._make_ready()
        self._backups.fetch_wal((), self._folder)
        return own_files.read_histories_in(self._folder)

    def commits(self, spans: Sequence[WalSpan]) -> Iterator[Commit]:
        """Yield every transaction that was committed, in the order of the WAL.

        Raises:
            BackoutError: the WAL cannot be read; pg_waldump is quoted.
        """
        self._fetch(spans)
        for span in spans:
            for line in self._lines(span, "--rmgr=Transaction"):
                if "desc: COMMIT" in line:
                    found = _COMMIT.search(line)
                    if found is not None:
                        yield _make_commit(found, span.timeline)

    def began(self, spans: Sequence[WalSpan], xid: int) -> int | None:
        """Return a position in this WAL at or before a transaction's first record; None: there is none.

        Postgres writes down now and then which id is the next one to be given away, and gives none away meanwhile
        (RUNNING_XACTS; src/backend/storage/ipc/standby.c): one with that id or a later one wrote after the record.
        """
        self._fetch(spans)
        found = None
        for span in spans:
            for line in self._lines(span, "--rmgr=Standby"):
                told = _RUNNING.search(line)
                if told is None:
                    continue
                if precedes(xid, int(told["next"])):
                    return found
                found = parse_lsn(told["lsn"])
        return found

    def transactions(self, spans: Sequence[WalSpan], progress: Callable[[int, int], None]) -> Iterator[Transaction]:
        """Yield what each transaction wrote that was committed, in the order of the WAL.

        Args:
            progress: hears (bytes of WAL read so far, bytes in all).
        """
        self._fetch(spans)
        whole = sum(span.end_lsn - span.begin_lsn for span in spans)

        def lines() -> Iterator[str]:
            before = 0
            for span in spans:
                for number, line in enumerate(self._lines(span, *(f"--rmgr={name}" for name in _OF_ROWS))):
                    if number % _TOLD_EVERY == 0 and (at := _AT.search(line)) is not None:
                        progress(before + parse_lsn(at[1]) - span.begin_lsn, whole)
                    self._timeline = span.timeline
                    yield line
                before += span.end_lsn - span.begin_lsn
            progress(whole, whole)

        return list_transactions(lines(), self._commit_of)

    def chains(self, spans: Sequence[WalSpan], bad: Bad) -> Followed:
        """Return the rows that some transactions wrote to, from version to version, in one pass.

        Args:
            spans: from before any transaction began that was committed between the first bad one and the last.
        """
        return Follower(bad).read(self._lines_of_rows(spans), self._commit_of)

    def find_removed_rows(self, spans: Sequence[WalSpan], sought: Sought) -> tuple[tuple[int, StoredRow | None], ...]:
        """Return the rows that good transactions made and others removed again, with their tables' file nodes.

        Args:
            spans: from before the damage's first record on.
        """
        self._fetch(spans)
        if not has_removals((line for span in spans for line in self._lines(span, "--rmgr=Heap")), sought):
            return ()
        followed = Removals(sought)
        births = list(followed.read(self._lines_of_rows(spans), self._commit_of))
        read, segment = make_reader(self._folder, spans)
        found = [(node, read_stored_row(read, segment, birth)) for node, birth in births]
        return (*found, *((node, None) for node in sorted(followed.unknown)))

    def _lines_of_rows(self, spans: Sequence[WalSpan]) -> Iterator[str]:
        """Yield what was written to rows, and how transactions ended."""
        self._fetch(spans)
        for span in spans:
            self._timeline = span.timeline
            yield from self._lines(span, "--rmgr=Heap", "--rmgr=Heap2", "--rmgr=Transaction")

    def _commit_of(self, line: str) -> Commit | None:
        found = _COMMIT.search(line)
        return None if found is None else _make_commit(found, self._timeline)

    def last(self, spans: Sequence[WalSpan]) -> int | None:
        """Return the position of the last complete record, None where there is none."""
        for span in reversed(spans):
            self._fetch([span])
            size = _FIRST_LOOK
            while True:
                begin = max(span.begin_lsn, span.end_lsn - size)
                line = ""
                for line in self._lines(replace(span, begin_lsn=begin)):  # noqa: B007 the last one is wanted
                    pass
                if (found := _AT.search(line)) is not None:
                    return parse_lsn(found[1])
                if begin == span.begin_lsn:
                    break
                size *= 4
        return None

    def find_written_relations(
        self, spans: Sequence[WalSpan], xids: Collection[int]
    ) -> dict[tuple[int, int], frozenset[str]]:
        """Return what these transactions wrote to: {(database, relation's file node): the kinds of heap records}."""
        self._fetch(spans)
        found: dict[tuple[int, int], set[str]] = {}
        passes = [[f"--xid={xid}"] for xid in sorted(xids)] if len(xids) <= _FEW else [[]]
        wanted = frozenset(map(str, xids))
        for span in spans:
            for options in passes:
                for line in self._lines(span, *options):
                    if not line.startswith("rmgr: Heap"):
                        continue
                    head, _, rest = line.partition(", lsn:")
                    if head.rpartition("tx:")[2].strip() not in wanted:
                        continue
                    kind = rest.partition("desc: ")[2].partition(" ")[0].partition("+")[0]
                    for database, node in _BLOCK.findall(rest):
                        found.setdefault((int(database), int(node)), set()).add(kind)
        return {key: frozenset(kinds) for key, kinds in found.items()}

    def writers(self, spans: Sequence[WalSpan], relation: str) -> Iterator[tuple[int, str]]:
        """Yield (transaction, kind of record) of everything that was written to "TABLESPACE/DATABASE/FILENODE"."""
        self._fetch(spans)
        for span in spans:
            for line in self._lines(span, "--rmgr=Heap", f"--relation={relation}"):
                head, _, rest = line.partition(", lsn:")
                kind = rest.partition("desc: ")[2].partition(" ")[0].partition("+")[0]
                yield int(head.rpartition("tx:")[2]), kind

    def row_writes(self, spans: Sequence[WalSpan]) -> Iterator[RowWrite]:
        """Yield what transactions wrote to rows and sequences, or in a way that is not known here."""
        self._fetch(spans)
        return (each for span in spans for line in self._lines(span) for each in list_row_writes(line))

    def written(self, spans: Sequence[WalSpan], *, apart_from: Collection[int]) -> dict[tuple[int, int], int]:
        """Return how many row versions were written, by (database, file node), without those transactions.

        Nor does it count what a fence of ours wrote to the roles that all databases share.
        """
        self._fetch(spans)
        skipped, fences = frozenset(map(str, apart_from)), set[str]()
        found: dict[tuple[int, int], int] = {}
        for span in spans:
            for line in self._lines(span, "--rmgr=Heap", "--rmgr=Heap2", "--rmgr=LogicalMessage"):
                head, _, rest = line.partition(", lsn:")
                kind = rest.partition("desc: ")[2].partition(" ")[0].partition("+")[0]
                xid = head.rpartition("tx:")[2].strip()
                if kind == "MESSAGE" and f'prefix "{FENCE_MESSAGE}"' in rest:
                    fences.add(xid)
                if kind not in _ROWS or xid in skipped:
                    continue
                block = _BLOCK.search(rest)
                many = _TUPLES.search(rest) if kind == "MULTI_INSERT" else None
                if block is not None and not (block[1] == "0" and xid in fences):
                    key = int(block[1]), int(block[2])
                    found[key] = found.get(key, 0) + (int(many[1]) if many else 1)
        return found

    def databases_made(self, spans: Sequence[WalSpan]) -> frozenset[int]:
        """Return the object ids of the databases that were created."""
        self._fetch(spans)
        lines = (line for span in spans for line in self._lines(span, "--rmgr=Database"))
        return frozenset(int(found[1]) for line in lines if (found := _MADE.search(line)))

    def _fetch(self, spans: Sequence[WalSpan]) -> None:
        """Lay out what is missing; a segment that was partial may have grown.

        A segment bears its name here only once it is whole: what a kill or a full disk tears is fetched again.
        """
        self._make_ready()
        partial = {each.name for each in self._backups.wal() if each.partial}
        names = dict.fromkeys(name for span in spans for name in span.names)
        places = {name: self._folder / parse_segment(name) for name in names}
        missing = [name for name in names if not places[name].is_file() or self._grew(name).exists()]
        for name in missing:
            if name in partial:
                self._grew(name).touch()
        with tempfile.TemporaryDirectory(prefix=f"{_ARRIVING}{os.getpid()}-", dir=self._folder) as made:
            arriving = Path(made)

            def there(name: str) -> None:
                (arriving / parse_segment(name)).replace(self._folder / parse_segment(name))

            self._backups.fetch_wal(missing, arriving, there)
            for path in arriving.glob("*.history"):
                path.replace(self._folder / parse_wal_file(path.name))
        for name in missing:
            if name not in partial:
                self._grew(name).unlink(missing_ok=True)

    def _make_ready(self) -> None:
        """Make the folder; what was never synced before a restart of the machine, and what killed ones left, goes.

        So does what is of another cluster: its segments have the same names.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._of:
            self._of = next((each.system_identifier for each in self._backups.backups()), "")
        boot, mark = self._folder / "boot", f"{read_boot_id()} {self._of}".rstrip()
        if read_text(boot) != mark:
            for path in self._folder.iterdir():
                if path.is_file():
                    path.unlink()
            write_whole(boot, mark)
        for path in self._folder.glob(f"{_ARRIVING}*"):
            if not is_running(int(path.name.split("-")[1])):
                shutil.rmtree(path, ignore_errors=True)

    def _grew(self, name: str) -> Path:
        """Return the mark of a segment that was partial when it was laid out, so that there is more of it by now."""
        return self._folder / f"{parse_segment(name)}.was-partial"

    def _end(self, span: WalSpan) -> int:
        """Return the position up to which a span is read: to the end of its page, where nothing but zeros follow.

        A segment's received length is found by its last non-zero byte, and a COMMIT record may end with zeros:
        that of a transaction with definitions or savepoints does.
        """
        end = -(-span.end_lsn // _PAGE) * _PAGE
        if span.end_lsn % _PAGE <= max(_PAGE_HEADERS) or not span.names:
            return _find_page_end(span.end_lsn)
        with (self._folder / parse_segment(span.names[-1])).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(span.end_lsn % size if size else 0)
            rest = file.read(end - span.end_lsn)
        return end if not rest.strip(b"\0") else span.end_lsn

    def _lines(self, span: WalSpan, *options: str) -> Iterator[str]:
        argv = (
            self._binaries.path("pg_waldump"),
            f"--path={self._folder}",
            f"--timeline={span.timeline}",
            f"--start={show_lsn(span.begin_lsn)}",
            f"--end={show_lsn(self._end(span))}",
            *options,
        )
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=make_tool_environment(),
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                # A stretch begins where a segment does, in the middle of a record, and pg_waldump says so on a line.
                yield from (line for line in process.stdout if line.startswith("rmgr:"))
            except GeneratorExit:  # the reader has found what it looked for
                process.kill()
                raise
            said = process.stderr.read().strip()
        if process.returncode != 0 and not _END.search(said) and not self._is_torn(said, span):
            raise BackoutError(
                f"the WAL cannot be read: {said[-300:]}",
                where=str(self._folder),
                hint="look at the archive: backout db backups",
            )

    def _is_torn(self, said: str, span: WalSpan) -> bool:
        """Whether the unreadable record is the last one, received only in part so far."""
        if (page := _NOT_YET.search(said)) is not None:  # of a segment that is written again, its older pages
            size = (self._folder / parse_segment(page[1])).stat().st_size
            return find_segment_begin(page[1], size) + int(page[2]) >= span.end_lsn // _PAGE * _PAGE
        found = _TORN.search(said)
        return found is not None and parse_lsn(found[1]) >= span.end_lsn - _LAST


def _find_page_end(lsn: int) -> int:
    """Return a position without the header of the page that begins there: pg_waldump would read on there."""
    return lsn - lsn % _PAGE if lsn % _PAGE in _PAGE_HEADERS else lsn


def _make_commit(found: re.Match[str], timeline: int) -> Commit:
    rest = found["rest"]
    subxids = _SUBXIDS.search(rest)
    dropped = _DROPPED.search(rest)
    objects = [word.split("/") for word in dropped[1].split()] if dropped else []
    caches = frozenset(_INVALIDATED.findall(rest))
    return Commit(
        xid=int(found["own"] or found["tx"]),
        lsn=parse_lsn(found["lsn"]),
        timeline=timeline,
        at=parse_moment(found["at"], what="the time of a commit in the WAL"),
        subxids=tuple(int(word) for word in subxids[1].split()) if subxids else (),
        dropped=tuple(int(oid) for kind, _, oid in objects if kind == _RELATION),
        database=next((int(oid) for kind, oid, _ in objects if kind == _RELATION), 0),
        changes_schema=bool(caches) and not (_NO_STATISTICS in caches and caches <= _STATISTICS),
    )
