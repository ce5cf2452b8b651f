"""The tools of the database commands: history, backups, WAL, restores, vendors, from a configuration."""
