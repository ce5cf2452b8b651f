"""Base backups and dumps."""
