"""Migrations in a folder; no environment is needed to read them."""

from backout.providers.files.sql_migrations import SqlMigrations

__all__ = ["SqlMigrations"]
