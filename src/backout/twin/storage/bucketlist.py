"""The list of existing R2 buckets: the object store's own, or the last known one while a fault hides the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.twin.api.answers import ApiError
from backout.twin.faults import FaultKind

if TYPE_CHECKING:
    from backout.twin.control.state import State
    from backout.twin.faults import Faults
    from backout.twin.storage.port import Buckets


class BucketList:
    """The buckets, whether they are created and deleted by the API or by S3.

    Args:
        state: remembers them.
        buckets: the store.
        faults: while one affects the store, its list is not trusted.
    """

    def __init__(self, state: State, buckets: Buckets, faults: Faults) -> None:
        self._state = state
        self._buckets = buckets
        self._faults = faults

    async def now(self) -> dict[str, float]:
        """Return the creation time (Unix seconds) of each bucket by name."""
        if not self._is_hit():
            await self._learn()
        return dict(self._state.buckets())

    async def recreate(self) -> tuple[str, ...]:
        """Make the remembered buckets that the store lost with its folder; return those that it refuses to make."""
        refused: list[str] = []
        for name, _created in () if self._is_hit() else self._state.buckets():
            try:
                await self._buckets.create(name)
            except ApiError:
                refused.append(name)
        return tuple(refused)

    def _is_hit(self) -> bool:
        active = self._faults.active
        return bool(active(FaultKind.SERVICE_DOWN, "storage") or active(FaultKind.STORAGE_DENIED))

    async def _learn(self) -> None:
        try:
            names = frozenset(await self._buckets.names())
        except ApiError:
            return
        known = frozenset(name for name, _created in self._state.buckets())
        for name in names - known:
            self._state.add_bucket(name)
        for name in known - names:
            self._state.delete_bucket(name)
