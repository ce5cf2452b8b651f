"""The ports that keep everyone else from writing to a database while it is restored, and try a write afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.database.fence import FenceMark, FenceOrder, FenceProof, FenceSurvey


class Fence(Protocol):
    """The fence of the live database. It is a state of the database, and needs no journal.

    Every method raises AuthError, or ProviderUnavailable where the server does not answer.
    """

    def survey(self) -> FenceSurvey:
        """Return who can log in and write, what else works there, and why a fence would not hold; changes nothing."""
        ...

    def read(self) -> FenceMark | None:
        """Return the fence that stands, None where none does."""
        ...

    def raise_fence(self, order: FenceOrder, hear: Callable[[str], None] = ...) -> FenceMark:
        """Take LOGIN from the roles, and end every session of others; return when there is none.

        Doing it again ends the sessions again, and returns a later `lsn`. What opens it is tried before, and a second
        session is kept until it stands.

        Args:
            hear: told what is done.

        Raises:
            Refused: one of the survey's refusals stands, or the fence of another run does.
            BackoutError: sessions do not end; what was taken is given back.
        """
        ...

    def prove(self, since_lsn: int, quiet_s: float = ..., hear: Callable[[str], None] = ...) -> FenceProof:
        """Watch for a while that no session of others is there, then read what was committed since a position.

        Args:
            since_lsn: `FenceMark.lsn`.
            quiet_s: in seconds; a session that is seen is ended, and the time begins again, a few times.
        """
        ...

    def set_in(self, dsn: str, mark: FenceMark) -> FenceMark:
        """Set the same fence in a copy that accepts writes, before it takes the live one's place.

        It also takes LOGIN from roles that can write there and are not in the live database. Doing it again changes
        nothing.

        Args:
            dsn: the connection string of a superuser of the copy.

        Returns:
            The fence there: the state of its roles is that of the copy.
        """
        ...

    def open(self, mark: FenceMark) -> None:
        """Give every role back exactly what it had, as the comments tell, and read it back; none standing is no error.

        Raises:
            Refused: the fence of another run stands.
            BackoutError: it was not what it had been when it was read back.
        """
        ...


class CommitCheck(Protocol):
    """Tries whether the application can write to its database."""

    def commit_once(self) -> str:
        """Commit one transaction as the application's role, which changes no row, and read back that it is there.

        Returns:
            The role.

        Raises:
            BackoutError: it is not let in, cannot write, or the commit is not there.
        """
        ...
