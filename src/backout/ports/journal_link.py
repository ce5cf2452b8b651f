"""How the journal talks to its database: a connection of SQLite's, or the link to a Postgres server.

Only the link knows the server's protocol, its errors and the secret of the connection string; only the journal knows
its tables.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Rows(Protocol):
    """What a statement found, or how many rows it changed."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that are left."""
        ...


class Connection(Protocol):
    """Statements with `?` for each value."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Rows:
        """Run a statement."""
        ...

    def executemany(self, statement: str, values: Sequence[Sequence[Any]], /) -> object:
        """Run a statement for each row of values."""
        ...


class Trouble(StrEnum):
    """What is wrong, as far as it decides what is done next."""

    NOT_REACHED = "not reached"  # no connection, or it broke
    NOT_LET_IN = "not let in"  # the login, the certificate, the name of the database
    NO_URL = "no URL"  # this machine does not have the connection string
    ABSENT = "absent"  # a table or the schema is not there
    DENIED = "denied"  # the role may not
    WAITED = "waited"  # for a lock, or a statement took too long
    FULL = "full"  # no room on its disk
    ONLY_READ = "only read"  # a standby, or a database that takes no writes
    NO_VALUE = "no value"  # a value that no column holds
    DAMAGED = "damaged"  # tables or pages are not as they were made
    OTHER = "other"


class LinkError(Exception):
    """The database did not do what it was asked for; nothing secret is in it.

    Attributes:
        trouble: what kind of error it is.
        said: the server's words, "" for none.
        hint: what to do about it when the link knows, else "".
    """

    def __init__(self, trouble: Trouble, said: str = "", hint: str = "") -> None:
        super().__init__(f"{trouble}: {said}")
        self.trouble = trouble
        self.said = said
        self.hint = hint


class JournalLink(Connection, Protocol):
    """One transaction at a time on the journal's server; nothing is kept in a session, so a pooler may stand between.

    Every call raises LinkError.
    """

    @property
    def place(self) -> str:
        """Which database it is, without secrets."""
        ...

    def begin(self, question: str, *, snapshot: bool = False) -> Any:
        """Begin a transaction, ask a question in it (without values), and return the first row of the answer.

        A connection that turns out to be broken is opened anew, once.

        Args:
            snapshot: all that is read in it is of one moment, and nothing is written.
        """
        ...

    def read(self, question: str, statement: str, values: Sequence[Any] = (), /) -> tuple[Any, list[Any]]:
        """Ask a question and run a statement that only reads, in a transaction of their own and a single exchange.

        Returns:
            The first row of the answer to the question, and all rows of the statement.
        """
        ...

    def commit(self) -> None:
        """Commit; NOT_REACHED says that it is not known whether it was."""
        ...

    def rollback(self) -> None:
        """End the transaction without any effect, if there is one; never raises."""
        ...

    def close(self) -> None:
        """Close the connection; the next transaction opens one."""
        ...
