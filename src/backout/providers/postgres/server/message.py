"""The server's message about a refused statement, in one line, for reasons, reports and the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg


def get_message(error: psycopg.Error) -> str:
    """Return the server's message without its details, which quote values of rows; else the kind of error."""
    return " ".join((error.diag.message_primary or type(error).__name__).split())
