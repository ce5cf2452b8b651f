"""Databases, migrations, backups and checks of them as text and as JSON values."""
