"""What the journal's tests have in common."""

from __future__ import annotations

from journal_engines import engine, journal_server, on_postgres

__all__ = ["engine", "journal_server", "on_postgres"]
