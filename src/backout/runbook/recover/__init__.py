"""Everything back to one moment: code, database, objects and secrets as one run ("Complete System Recovery")."""
