"""What the tests of procedures have in common."""

from __future__ import annotations

from journal_engines import engine, journal_server

__all__ = ["engine", "journal_server"]
