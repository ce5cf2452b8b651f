"""`backout db`: the database."""
