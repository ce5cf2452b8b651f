"""Backups and dumps of a database, and the proof that they can be restored."""
