"""Everything that talks to a Postgres server or runs one; it depends on the ports and the model only."""
