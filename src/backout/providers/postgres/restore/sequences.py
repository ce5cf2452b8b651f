"""Port SequenceCarrier: a cluster that replaces another one hands out no sequence value again.

Both are down. The values handed out until the last moment are in the files of the replaced one, including values that
sessions had cached: a sequence is one page with one row (last_value, log_cnt, is_called), and a clean stop writes it.
One that crashed replays its WAL first, and is stopped.
The new one is started on a private socket with settings of its own, like a side instance.

Source: PostgreSQL 10 to 18, src/backend/commands/sequence.c (SEQ_MAGIC in the page's special space; the row),
src/include/storage/bufpage.h and itemid.h (the page), htup_details.h (`t_hoff`), "Sequence Manipulation Functions".
"""

from __future__ import annotations

import re
import struct
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.errors import BackoutError
from backout.model.database.sequences import Advanced, Carried, SequencesLeft
from backout.model.value import Value
from backout.private import make_private_folder
from backout.providers.postgres.restore.side_files import write_local_access
from backout.providers.postgres.restore.side_settings import make_alone_settings
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.message import get_message
from backout.providers.postgres.server.own_files import was_shut_down
from backout.providers.postgres.server.owner_session import make_inside_dsn
from backout.providers.postgres.server.session import LETS_IN, open_working
from backout.providers.postgres.server.template import give_away

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backout.model.database.sequences import PlacedSequence
    from backout.providers.postgres.server.binaries import Binaries
    from backout.providers.postgres.server.launcher import ServerStatus

_PAGE: Final = 8192
_MAGIC: Final = 0x1717
_SPECIAL_AT: Final = 16
_FIRST_ITEM_AT: Final = 24
_HOFF_AT: Final = 22
_PATH: Final = re.compile(r"base/\d+/\d+")
_START_S: Final = 600.0
_STANDBY: Final = ("standby.signal", "recovery.signal")
_WRITES: Final = {"default_transaction_read_only": "off"}
"""A database or role may have it on."""
_SEQUENCES: Final = """
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), pg_relation_filepath(c.oid)::text,
  s.seqincrement, s.seqmin, s.seqmax, s.seqcycle
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY 1
"""


class _Sequence(Value, frozen=True):
    oid: int
    name: str
    path: str
    increment: int
    least: int
    most: int
    cycles: bool


class _Place(Value, frozen=True):
    """The state of a sequence; is_called: whether `value` itself was handed out."""

    value: int
    is_called: bool


class PostgresSequences:
    """Port SequenceCarrier.

    Args:
        folder: in which a private server has its configuration and its log.
    """

    def __init__(self, binaries: Binaries, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder

    def settle(self, old: Path) -> bool:
        """Let a crashed cluster replay its WAL on its own; return whether it had crashed and did.

        A value is handed out when the WAL says so, up to 32 values ahead; the files say it at the next checkpoint. What
        cannot be replayed (a broken disk) is left as it is.
        """
        if was_shut_down(old) or any((old / name).exists() for name in _STANDBY):
            return False
        make_private_folder(self._folder)
        with tempfile.TemporaryDirectory(prefix="sequences-", dir=self._folder) as made:
            try:
                with self._alone(Path(made), old, take_over=False):
                    pass
            except BackoutError:
                return False
        return was_shut_down(old)

    @contextmanager
    def _alone(self, folder: Path, data: Path, *, take_over: bool) -> Iterator[ServerStatus]:
        """Yield the status of a cluster's server on a private socket, with settings of ours; it is stopped then."""
        write_local_access(folder)
        give_away(folder)
        give_away(data)
        settings = make_alone_settings(folder, data, self._binaries)
        server = PostgresServer(data, self._binaries, settings=settings, log_file=folder / "log")
        try:
            yield server.start(take_over=take_over, timeout_s=_START_S)
        finally:
            server.stop(timeout_s=_START_S)

    def carry(
        self,
        old: Path,
        into: Path,
        superuser: str,
        known: Mapping[str, Sequence[PlacedSequence]],
        progress: Callable[[str, int, int], None],
    ) -> Carried:
        """Advance the sequences of `into` past those of `old`; doing it again changes nothing.

        Raises:
            BackoutError: the server of `into` does not start, or did not stop cleanly.
        """
        make_private_folder(self._folder)
        with (
            tempfile.TemporaryDirectory(prefix="sequences-", dir=self._folder) as made,
            self._alone(Path(made), into, take_over=True) as status,
        ):
            carried = _Carrying(old, status, superuser, known).all(progress)
        if not was_shut_down(into):
            raise BackoutError("the server that advanced the sequences did not stop cleanly", where=str(into))
        return carried


class _Carrying:
    """One pass over all databases of a running private server."""

    def __init__(
        self, old: Path, status: ServerStatus, superuser: str, known: Mapping[str, Sequence[PlacedSequence]]
    ) -> None:
        self._old = old
        self._dsn = f"host={status.socket_directory} port={status.port} user={superuser} dbname=postgres"
        self._known = known
        self._looked_at = 0
        self._advanced: list[Advanced] = []
        self._left: list[SequencesLeft] = []

    def all(self, progress: Callable[[str, int, int], None]) -> Carried:
        import psycopg

        with closing(self._session("postgres")) as session:
            names = [str(name) for (name,) in session.execute(LETS_IN).fetchall()]
        for number, name in enumerate(names):
            progress("sequences of databases", number, len(names))
            try:
                self._database(name)
            except psycopg.Error as error:
                reason = f"none of this database was looked at, or not all: {get_message(error)}"
                self._left.append(SequencesLeft(name, "*", reason))
        clean = was_shut_down(self._old)
        return Carried(self._looked_at, tuple(self._advanced), tuple(self._left), stopped_cleanly=clean)

    def _session(self, database: str) -> Any:
        return open_working(make_inside_dsn(self._dsn), dbname=database, statement_timeout_s=60.0, settings=_WRITES)

    def _database(self, database: str) -> None:
        wanted: dict[str, tuple[_Sequence, _Place, _Place]] = {}
        with closing(self._session(database)) as session:
            found = [_Sequence(*row) for row in session.execute(_SEQUENCES).fetchall()]
            for sequence in found:
                self._looked_at += 1
                old, why = self._old_place(database, sequence)
                now = _stands(session, sequence)
                if why:
                    self._left.append(SequencesLeft(database, sequence.name, why))
                if old is None or not old.is_called or _is_past(sequence, now, old):
                    continue
                if not sequence.least <= old.value <= sequence.most:
                    reason = f"it had come to {old.value}, and may have {sequence.least} to {sequence.most} here"
                    self._left.append(SequencesLeft(database, sequence.name, reason))
                    continue
                session.execute(
                    b"SELECT pg_catalog.setval(%s::pg_catalog.oid::pg_catalog.regclass, %s::pg_catalog.int8, true)",
                    (sequence.oid, old.value),
                )
                wanted[sequence.name] = sequence, now, old
        if not wanted:
            return
        with closing(self._session(database)) as session:
            for sequence, before, old in wanted.values():
                now = _stands(session, sequence)
                if now != replace(old, is_called=True):
                    raise BackoutError(f"sequence {sequence.name} stands at {now.value}, and not at {old.value}")
                self._advanced.append(Advanced(database, sequence.name, before.value, now.value))

    def _old_place(self, database: str, sequence: _Sequence) -> tuple[_Place | None, str]:
        """Return where a sequence stood in the cluster that goes, and why that is not all that is to be known."""
        known = self._known.get(database)
        if known is None:
            place = read_place(self._old, sequence.path)
            return place, "" if place is not None else "it was made anew or dropped since, and could not be asked"
        same = [each for each in known if each.oid == sequence.oid or each.name == sequence.name]
        places = [place for each in same if (place := read_place(self._old, each.path)) is not None]
        if not same:
            return None, "it was dropped since; what it handed out until then is not known"
        if len(places) < len(same):
            return _find_farthest(sequence, places), "it was made anew in the last moment, and its file is not there"
        is_other = any(each.path != sequence.path for each in same)
        why = "it was restarted or recreated since; what it had handed out before that is not known" if is_other else ""
        return _find_farthest(sequence, places), why


def read_place(data: Path, path: str) -> _Place | None:
    """Return the state of a sequence from its file in a stopped data directory; None: it is not a sequence's file."""
    if not _PATH.fullmatch(path):
        return None
    try:
        page = (data / path).read_bytes()[:_PAGE]
    except FileNotFoundError:
        return None
    if len(page) < _PAGE:
        return None
    (special,) = struct.unpack_from("=H", page, _SPECIAL_AT)
    if special > _PAGE - 4 or struct.unpack_from("=I", page, special)[0] != _MAGIC:
        return None
    at = int(struct.unpack_from("=I", page, _FIRST_ITEM_AT)[0]) & 0x7FFF
    row = at + page[at + _HOFF_AT]
    value, _, is_called = struct.unpack_from("=qq?", page, row)
    return _Place(int(value), bool(is_called))


def _find_farthest(sequence: _Sequence, places: Sequence[_Place]) -> _Place | None:
    called = [place for place in places if place.is_called] or list(places)
    pick = max if sequence.increment > 0 else min
    return pick(called, key=lambda place: place.value, default=None)


def _is_past(sequence: _Sequence, now: _Place, old: _Place) -> bool:
    """Whether a sequence hands out nothing that was handed out; one that cycles goes on exactly where it stood."""
    if sequence.cycles:
        return now == old
    if now.value == old.value:
        return now.is_called
    return now.value > old.value if sequence.increment > 0 else now.value < old.value


def _stands(session: Any, sequence: _Sequence) -> _Place:
    query = f"SELECT last_value, is_called FROM {sequence.name}"  # noqa: S608 quoted by the server itself
    value, is_called = session.execute(query.encode()).fetchone()
    return _Place(int(value), bool(is_called))
