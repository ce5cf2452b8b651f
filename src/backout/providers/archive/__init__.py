"""The archive of base backups and WAL: compressed, optionally encrypted, in a folder or a bucket."""
