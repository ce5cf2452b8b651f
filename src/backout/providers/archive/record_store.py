"""The records of a store, each read once: the backups, those that are refused and why, and those accepted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, Refused, UsageError
from backout.model.names import is_id
from backout.model.value import Value
from backout.providers.archive import records
from backout.providers.archive.places import BASES, RECORD, make_base_prefix, parse_backup, record_key
from backout.providers.archive.records import RULE

if TYPE_CHECKING:
    from backout.providers.archive.records import Record
    from backout.providers.archive.sealing import Key
    from backout.providers.archive.stores import Store

_FETCHES_AT_ONCE: Final = 4


class Terms(Value, frozen=True):
    """The environment whose backups are accepted, and the unsigned ones that are.

    Args:
        environment: the environment they must belong to, "" for any.
        accepted: the ids that a person typed.
        lays_out: whether those may be unpacked from the store; without it only those unpacked here before, and
            proved, are used.
    """

    environment: str = ""
    accepted: frozenset[str] = frozenset()
    lays_out: bool = True


SIGNED: Final = Terms()


class RecordStore:
    """The records of one environment.

    Args:
        key: the signing key; None: they are accepted unsigned.
    """

    def __init__(self, store: Store, key: Key | None, terms: Terms = SIGNED) -> None:
        self._store = store
        self._key = key
        self._terms = terms
        self._known: dict[str, Record | BackoutError] = {}
        self._unsigned: set[str] = set()
        self._doubtful: dict[str, Record] = {}

    def records(self) -> tuple[Record, ...]:
        """Return the records that may be used, oldest first."""
        return tuple(each for each in self._all() if not isinstance(each, BackoutError))

    def list_refused(self) -> tuple[tuple[str, BackoutError], ...]:
        """Return the backups that may not be used, by id, and why: not signed, another key, damaged."""
        self._all()
        found = ((name, each) for name, each in self._known.items() if isinstance(each, BackoutError))
        return tuple(sorted(found, key=lambda pair: pair[0]))

    def doubtful(self) -> tuple[Record, ...]:
        """Return the records that can be read and may not be used, oldest first."""
        self._all()
        return tuple(self._doubtful[name] for name in sorted(self._doubtful) if name in self._known)

    def check_lays_out(self, record: Record) -> None:
        """Raise Refused where it may not be laid out from the store: it is not signed, and no copy was proved here."""
        if self.is_unsigned(record) and not self._terms.lays_out:
            backup = record.facts.id
            raise Refused(
                "this backup is not signed, and no copy of it was proved here",
                where=f"{self._store.name}/base/{backup}",
                rule=RULE,
                hint=f"backout db restore TARGET --side --accept-unsigned {backup}",
            )

    def find(self, backup: str) -> Record | None:
        """Return a record, None when there is none. Raises BackoutError: why it may not be used."""
        found = self._read(backup)
        if isinstance(found, BackoutError):
            raise found
        return found

    def record(self, backup: str) -> Record:
        """Return a record. Raises UsageError: there is no such backup; or why it may not be used."""
        found = self.find(backup) if is_id(backup) else None
        if found is None:
            raise UsageError(f"no backup {backup!r}", where=self._store.name, hint="backout db backups list")
        return found

    def is_unsigned(self, record: Record) -> bool:
        """Whether a backup, or one that it builds on, is taken only because a person named it."""
        at: Record | BackoutError | None = record
        for _ in range(len(self._known) + 1):
            if at is None or isinstance(at, BackoutError):
                return False  # a chain with a hole cannot be laid out anyway
            if at.facts.id in self._unsigned:
                return True
            if at.facts.parent is None:
                return False
            at = self._read(at.facts.parent)
        return False

    def write(self, record: Record) -> None:
        """Keep a record, signed where its backup is encrypted; one that was only accepted stays as it is."""
        backup = record.facts.id
        if backup in self._unsigned:
            return
        content = records.encode(record, self._key if record.key else None)
        self._store.put(record_key(backup), content)
        self._known[backup] = records.decode(content, backup, backup)

    def forget(self, backup: str) -> None:
        """Read it again when it is asked for the next time."""
        self._known.pop(backup, None)

    def _all(self) -> tuple[Record | BackoutError, ...]:
        keys = [key for key, _ in self._store.keys(BASES) if key == f"{BASES}{parse_backup(key)}/{RECORD}"]
        with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
            found = list(pool.map(self._read, [parse_backup(key) for key in keys]))
        names = [parse_backup(key) for key in keys]
        pairs = sorted(zip(names, found, strict=True), key=lambda pair: pair[0])
        return tuple(each for _, each in pairs if each is not None)

    def _read(self, backup: str) -> Record | BackoutError | None:
        if backup not in self._known:
            found = self._fresh(backup)
            if found is None:
                return None
            self._known[backup] = found
        return self._known[backup]

    def _fresh(self, backup: str) -> Record | BackoutError | None:
        if not is_id(backup):
            return Refused(f"{backup!r} is not the id of a backup", where=self._store.name, rule=records.RULE)
        content = self._store.get(record_key(backup))
        if content is None:
            return None
        where = f"{self._store.name}/{make_base_prefix(backup)[:-1]}"
        try:
            record = records.decode(content, backup, f"{self._store.name}/{record_key(backup)}")
        except BackoutError as error:
            return error
        try:
            records.check_signature(record, self._key, self._terms.environment, where)
        except BackoutError as error:
            if not isinstance(error, Refused) or backup not in self._terms.accepted:
                self._doubtful[backup] = record
                return error
            self._unsigned.add(backup)
        return record
