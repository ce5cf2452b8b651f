"""The twin's Postgres behind Hyperdrive."""
