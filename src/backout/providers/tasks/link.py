"""The transactions of ranges on the journal's server: each asked once more, and what its errors mean."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, BackoutError, ProviderUnavailable
from backout.ports.journal_link import LinkError, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from backout.providers.postgres.server.journal_link import PostgresLink

    T = TypeVar("T")

_POLL_S: Final = 0.3
_AWAY: Final = (Trouble.NOT_REACHED, Trouble.WAITED, Trouble.ONLY_READ)
_BEGIN: Final = "SELECT 1"


def make_own_error(error: LinkError, place: str) -> BackoutError:
    """Return what an error of the journal's server means for work that is spread."""
    said = f" ({error.said})" if error.said else ""
    if error.trouble in _AWAY:
        return ProviderUnavailable(f"the journal's server does not answer{said}", where=place)
    if error.trouble is Trouble.NO_URL:
        return AuthError(f"this machine does not have the journal's connection string{said}", where=place)
    if error.trouble is Trouble.ABSENT:
        hint = "let its owner make it: docs/team.md"
        return BackoutError(f"the schema backout_tasks is not there, or not whole{said}", where=place, hint=hint)
    if error.trouble is Trouble.DENIED:
        what = f"this role may not use the schema backout_tasks{said}"
        return BackoutError(what, where=place, hint="grant it: docs/team.md")
    return BackoutError(
        f"the schema backout_tasks cannot be used{said}", where=place, hint="the server's log says more"
    )


class Transactions:
    """Runs what is safe to be done twice, each in a transaction of its own.

    Args:
        patience_s: how long a server that does not answer is waited for.
    """

    def __init__(self, link: PostgresLink, patience_s: float) -> None:
        self.link = link
        self._patience_s = patience_s

    def run(self, act: Callable[[PostgresLink], T], *, patience_s: float | None = None) -> T:
        """Return what an action returns, committed. Raises BackoutError: see `make_own_error`."""
        until = time.monotonic() + (self._patience_s if patience_s is None else patience_s)
        while True:
            try:
                return self._try(act)
            except LinkError as error:
                if error.trouble not in _AWAY or time.monotonic() > until:
                    raise make_own_error(error, self.link.place) from error
                time.sleep(_POLL_S)

    def _try(self, act: Callable[[PostgresLink], T]) -> T:
        with self._ended():
            self.link.begin(_BEGIN)
            result = act(self.link)
            self.link.commit()
            return result

    @contextmanager
    def _ended(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.link.rollback()

    def close(self) -> None:
        """Close the connection."""
        self.link.close()
