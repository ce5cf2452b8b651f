"""Base backups and WAL as they are kept: compressed, perhaps encrypted, in a folder or a bucket."""
