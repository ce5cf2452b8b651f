"""The structure of a database: catalogs, definitions, migrations."""
