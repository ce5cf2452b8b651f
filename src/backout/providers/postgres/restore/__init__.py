"""Side instances, and reading the WAL."""
