"""Whether the database is protected, as the receiver checks itself, and since when it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from backout.model.database.backups import Protection
    from backout.ports import Clock

EVERY_S: Final = 20.0
"""Two looks and a notice fit into a minute."""


class Asks(Protocol):
    """What a watch asks, and what it reports to; see `ReceiverOptions`."""

    @property
    def judge(self) -> Callable[[], Protection] | None:
        """Returns the current state."""
        ...

    @property
    def told(self) -> Callable[[Protection, float, int], None]:
        """Hears of a change."""
        ...

    @property
    def alarmed(self) -> Callable[[str], None]:
        """Hears what needs attention although the database is protected; once, until that is over."""
        ...


class Claim(Value, frozen=True):
    """The last known state of the protection; at, lsn: the last moment and position with protection.

    Args:
        alarm: `Protection.alarm` as last reported; "" once there is none.
    """

    protected: bool | None = None
    at: float = 0.0
    lsn: int = 0
    why: str = ""
    alarm: str = ""

    def after(self, found: Protection, now: float) -> Claim:
        """Return what is known after a look."""
        if found.protected:
            return Claim(True, now, found.reaches_lsn or self.lsn, found.why, self.alarm)
        return Claim(False, self.at, self.lsn, found.why, self.alarm)


class ClaimWatch:
    """Checks the protection repeatedly.

    Args:
        claim: what was known before.
    """

    def __init__(self, claim: Claim, asks: Asks, clock: Clock) -> None:
        self.claim = claim
        self._asks = asks
        self._clock = clock
        self._doubted = False

    def keep(self, stop: Event) -> None:
        """Look until it is asked to stop, in a thread of its own: that reads the archive, and may wait for it."""
        while not stop.wait(EVERY_S):
            self.look()

    def look(self) -> None:
        """Look once. A receiver that is just started again is no loss: two looks in a row have to agree on one."""
        assert self._asks.judge is not None
        try:
            found = self._asks.judge()
        except Exception:  # noqa: BLE001 mostly the server does not answer: unknown, and asked again
            return
        self._look_after(found.alarm)
        before = self.claim
        if before.protected and not found.protected and not self._doubted:
            self._doubted = True
            return
        self._doubted = False
        self.claim = before.after(found, self._clock.now())
        if before.protected is not None and before.protected is not found.protected:
            self._asks.told(found, self.claim.at, self.claim.lsn)

    def _look_after(self, alarm: str) -> None:
        """Tell of an alarm when it begins; its words may change each day."""
        known = self.claim.alarm
        if bool(alarm) is not bool(known):
            self.claim = replace(self.claim, alarm=alarm)
            if alarm:
                self._asks.alarmed(alarm)
