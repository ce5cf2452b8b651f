"""Everything that speaks to a Postgres server or runs one; it knows the ports and the model only."""
