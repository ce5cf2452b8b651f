"""The twin's object store behind R2."""
