"""Work that is spread over several machines, through the Postgres that has the journal."""
