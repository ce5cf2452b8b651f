"""Copies of a database's past: base backups, WAL, dumps, and a vendor's own copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from backout.model.database.backups import Retention
    from backout.model.database.branch import BranchTarget, Finalized, SideBranch
    from backout.model.database.capability import VendorState
    from backout.model.database.chains import Bad, Followed
    from backout.model.database.dump import Dump, Restored
    from backout.model.database.recovery import BaseBackup, Commit, SideLook
    from backout.model.database.removed import Sought, StoredRow
    from backout.model.database.rescue import Written
    from backout.model.database.transactions import Transaction
    from backout.model.database.wal import WalSegment, WalSpan


class Backups(Protocol):
    """What can be restored: base backups and the WAL after them."""

    def backups(self) -> tuple[BaseBackup, ...]:
        """Return the complete ones, oldest first; interrupted ones do not count."""
        ...

    def wal(self) -> tuple[WalSegment, ...]:
        """Return the archived WAL in the order of its positions, timeline by timeline; the last one may be partial."""
        ...

    def unpack(self, backup: str, into: Path, progress: Callable[[int, int], None]) -> None:
        """Lay out a data directory in the empty folder `into`, an incremental one with all it builds on.

        `progress` hears (bytes so far, bytes in all). Raises BackoutError when a file is damaged or missing, naming it.
        """
        ...

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = ...) -> None:
        """Lay these segments into a folder under their names, whole and decrypted; every history file comes first.

        Args:
            laid: told of each segment when it is there.
        """
        ...


class WalReader(Protocol):
    """Transactions as read from archived WAL."""

    def history(self) -> Mapping[int, Sequence[tuple[int, int]]]:
        """Return of each timeline but the first the ones before it, and the position at which each was left."""
        ...

    def commits(self, spans: Sequence[WalSpan]) -> Iterator[Commit]:
        """Yield the commits in the order of the WAL. Raises BackoutError when it cannot be read."""
        ...

    def began(self, spans: Sequence[WalSpan], xid: int) -> int | None:
        """Return a position in this WAL at or before a transaction's first record; None: there is none."""
        ...

    def find_written_relations(
        self, spans: Sequence[WalSpan], xids: Collection[int]
    ) -> Mapping[tuple[int, int], Collection[str]]:
        """Return what these transactions wrote to: {(database, relation's file node): the kinds of records}."""
        ...

    def transactions(self, spans: Sequence[WalSpan], progress: Callable[[int, int], None]) -> Iterator[Transaction]:
        """Yield what each transaction wrote that was committed, in the order of the WAL.

        `progress` hears (bytes of WAL read so far, bytes in all).
        """
        ...

    def chains(self, spans: Sequence[WalSpan], bad: Bad) -> Followed:
        """Return the rows that some transactions wrote to, from version to version."""
        ...

    def find_removed_rows(self, spans: Sequence[WalSpan], sought: Sought) -> Sequence[tuple[int, StoredRow | None]]:
        """Return rows that were made behind a damage and removed again: (file node, None where it does not show)."""
        ...

    def last(self, spans: Sequence[WalSpan]) -> int | None:
        """Return the position of the last complete record, None where there is none."""
        ...

    def writers(self, spans: Sequence[WalSpan], relation: str) -> Iterator[tuple[int, str]]:
        """Yield (transaction, kind of record) of everything that was written to a relation, in order.

        `relation` is "TABLESPACE/DATABASE/FILENODE".
        """
        ...

    def written(self, spans: Sequence[WalSpan], *, apart_from: Collection[int]) -> Mapping[tuple[int, int], int]:
        """Return how many row versions were written: {(database, relation's file node): rows}.

        Args:
            apart_from: transactions that do not count; aborted ones do.
        """
        ...

    def databases_made(self, spans: Sequence[WalSpan]) -> frozenset[int]:
        """Return the object ids of the databases that were created."""
        ...


class BackupTaker(Protocol):
    """Takes a base backup onto this machine, ready to be stored."""

    def take(self, backup: str, parent: str | None, progress: Callable[[int, int], None]) -> None:
        """Take it whole, an incremental one against its parent's manifest; what a killed attempt left is removed.

        Raises Refused when the server cannot take it against that parent; AuthError, ProviderUnavailable, BackoutError.
        """
        ...

    def find_staged_parent(self, backup: str) -> str | None:
        """Return the parent of the backup that waits here complete ("" of a full one), or None when none waits."""
        ...

    def verify(self, backup: str) -> None:
        """Check every file against the manifest. Raises BackoutError that names what is wrong."""
        ...

    def discard(self, apart_from: Collection[str] = ()) -> None:
        """Remove what waits here."""
        ...


class BackupKeeper(Protocol):
    """Stores base backups that were taken, and prunes old ones."""

    def store(self, backup: str, verified_at: float, progress: Callable[[int, int], None]) -> None:
        """Store the backup that waits; it exists when this returns, and not before."""
        ...

    def remove(self, retention: Retention) -> tuple[tuple[str, ...], int]:
        """Remove backups, WAL, and what killed attempts left; return the names of the WAL segments, and bytes freed."""
        ...

    def check(self, backup: str, progress: Callable[[int, int], None]) -> None:
        """Read everything of a stored backup again, and note that it is whole. Raises BackoutError."""
        ...


class Dumps(Protocol):
    """Logical copies of a database, kept on this machine."""

    def list_dumps(self) -> tuple[Dump, ...]:
        """Return them, oldest first; interrupted ones do not count."""
        ...

    def take(self, *, checksums: bool) -> Dump:
        """Take one and count every table in the same snapshot. Raises AuthError where the role may not read it all."""
        ...

    def keep(self, dump: Dump) -> None:
        """Write what is known of it again."""
        ...

    def remove(self, dump: Dump) -> None:
        """Delete its files."""
        ...


class DumpRestores(Protocol):
    """Restores dumps into a database. Both methods raise BackoutError when a file is damaged or missing."""

    def try_restore(self, dump: Dump) -> Restored:
        """Restore it into a scratch server and return what that holds."""
        ...

    def restore(self, dump: Dump, url: str) -> Restored:
        """Restore it into an empty database and return what that holds. Raises Refused when it is not empty."""
        ...


class VendorBackups(Protocol):
    """The vendor's own copies: a branch at an earlier moment, beside the live one."""

    def capabilities(self) -> VendorState:
        """Return what the API offers now; a refused token or an API that is down is a state, not an error."""
        ...

    def branches(self) -> tuple[SideBranch, ...]:
        """Return all branches, newest first."""
        ...

    def restore(self, target: BranchTarget, name: str) -> SideBranch:
        """Make a branch of the live one at that moment, and return it when it can be connected to.

        Idempotent by `name`: a branch of that name is returned as it is. Raises Refused for a moment out of the
        vendor's window, or of a kind that the vendor does not take.
        """
        ...

    def url(self, branch: SideBranch, database: str, role: str) -> str:
        """Return the branch's connection string, which is a secret."""
        ...


class VendorCutover(Protocol):
    """The end of a side branch: it becomes the live one, or it is deleted."""

    def hosts(self) -> frozenset[str]:
        """Return the host names at which the live branch answers; empty when the vendor does not say."""
        ...

    def finalize(self, branch: SideBranch, keep_as: str) -> Finalized:
        """Put its content in the live one's place, which stays under the name `keep_as`.

        Idempotent by `keep_as`. Raises Refused where the vendor has no such call.
        """
        ...

    def delete(self, branch: SideBranch) -> None:
        """Delete it; one that is gone already is no error. Raises Refused for the live one."""
        ...


class BranchReader(Protocol):
    """Reads side branches and never writes there: an id that a branch gave away would hide one of the live database."""

    def next_xid(self, url: str) -> int:
        """Return the first id (64 bits) that no transaction has got on the branch; waits for its compute to start."""
        ...

    def look(self, url: str, relation: str, migration: str) -> SideLook:
        """Return what it shows, read-only; "" is not looked for."""
        ...

    def list_committed_between(self, before: tuple[str, int], after: tuple[str, int]) -> tuple[Written, ...]:
        """Return what is committed in `after` and not in `before`, in the order of the ids.

        Args:
            before, after: (connection string, `next_xid` when the branch was made).

        Raises:
            Refused: too much lies between.
        """
        ...
