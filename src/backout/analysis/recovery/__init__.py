"""Judgements on backups, schemas and the ways to recover a database."""
