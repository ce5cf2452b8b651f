"""The objects of a bucket, and the notes that a restore of them goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from backout.model.objects.checks import BucketFacts, PermissionLook
    from backout.model.objects.manifests import ManifestName
    from backout.model.objects.versions import Attempt, Carried, ObjectChange, ObjectVersion


class BucketVersions(Protocol):
    """A bucket that keeps versions."""

    def versions(self) -> Iterator[ObjectVersion]:
        """Yield every version and delete marker: each key in one piece, its newest first, in the store's order."""
        ...

    def carry_out(
        self,
        changes: Sequence[ObjectChange],
        *,
        again: bool,
        attempts: Sequence[Attempt] = (),
        hear: Callable[[int], None] = lambda _done: None,
    ) -> Sequence[Carried]:
        """Carry out changes and return what became of each, in their order; what was done is done.

        Args:
            again: each object is looked at first: it may have changed since it was listed.
            attempts: those before this one, which may have made some of the changes; what nobody but somebody else can
                have made is not done, but as it should be.
            hear: is told after each change how many are done.

        Raises:
            ProviderUnavailable: the store does not answer any more; nothing says which of the changes are done.
        """
        ...

    def put_back(self, newer: ObjectVersion) -> str:
        """Make a version, or a delete marker, the newest one again, and return the id of what was made."""
        ...

    def is_same(self, key: str, one: str, other: str, *, contents: bool) -> bool:
        """Whether two versions have the same headers and metadata; `contents`: and the same bytes, which are read."""
        ...


class BucketLook(Protocol):
    """What can be said about a bucket without changing an object of the application."""

    def read(self) -> BucketFacts:
        """Return what the bucket says of itself. Raises AuthError, ProviderRejected, ProviderUnavailable."""
        ...

    def try_permissions(self) -> PermissionLook:
        """List, write, read and delete an object of backout's own, and return what was permitted."""
        ...


class Snapshots(Protocol):
    """The history beside a bucket that keeps no versions itself."""

    def list_manifests(self) -> tuple[ManifestName, ...]:
        """Return what was taken, oldest first."""
        ...

    def take(self, hear: Callable[[int], None]) -> ManifestName:
        """Store what is new in the bucket, and a manifest of all of it, which is read back.

        `hear` is told now and then how many objects were looked at. Raises BackoutError, Refused: the newest manifest
        is damaged, or is not signed.
        """
        ...

    def find_contents(self, name: ManifestName, undos: Iterable[ObjectChange]) -> Iterator[ObjectChange]:
        """Yield undos, each with the content by which a snapshot has what its object was before the restore.

        What the snapshot does not have stays as it is, and fails alone. Raises Refused: it is damaged, or not signed.
        """
        ...

    def prune(self, before: float) -> int:
        """Remove what no moment from then on needs (Unix seconds); return how many manifests went."""
        ...


class ChangeNotes(Protocol):
    """The changes of a run, kept on this host until the run is over."""

    def note(self, run: str, changes: Iterable[ObjectChange]) -> None:
        """Keep the changes of a run in their order, in place of what was kept before; durable when it returns."""
        ...

    def count(self, run: str) -> int | None:
        """Return how many are kept, None where they were never kept whole."""
        ...

    def read(self, run: str, begin: int, number: int) -> Sequence[ObjectChange]:
        """Return changes from a place on (0 is the first)."""
        ...

    def settle(self, run: str, begin: int, carried: Sequence[Carried]) -> None:
        """Keep what became of the changes from a place on."""
        ...

    def is_settled(self, run: str, begin: int, number: int) -> bool:
        """Whether it is kept what became of each of so many changes from a place on."""
        ...

    def find(self, run: str, keys: Sequence[str]) -> Mapping[str, tuple[ObjectChange, Carried | None]]:
        """Return the changes of these objects and what became of each, by key; an object without one is left out."""
        ...

    def settled(self, run: str) -> Iterator[tuple[ObjectChange, Carried | None]]:
        """Yield every change with what became of it, in their order."""
        ...
