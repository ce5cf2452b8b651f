"""A database as nasty as real ones, its load, a ledger outside that alone knows what is right, and what goes wrong."""
