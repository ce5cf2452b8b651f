"""A database: its schema, migrations, backups, dumps, damages, and the ways to recover."""
