"""Errors of Postgres: the server's message in one line, and whether the same statement may succeed later."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg


def get_message(error: psycopg.Error) -> str:
    """Return the server's message without its details, which quote values of rows; else the kind of error."""
    return " ".join((error.diag.message_primary or type(error).__name__).split())


def may_pass(error: psycopg.Error) -> bool:
    """Return whether the same may succeed later: it was a lock, the connection, or what the server has to work with.

    Source: psycopg 3 makes an OperationalError of the classes 08, 53, 55, 57 and 58; but a state that is missing
    (55000, as an update of a published table without a replica identity) does not come by itself.
    """
    from psycopg import OperationalError
    from psycopg.errors import ObjectNotInPrerequisiteState

    return isinstance(error, OperationalError) and not isinstance(error, ObjectNotInPrerequisiteState)
