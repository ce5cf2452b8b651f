"""`backout objects`: the application's bucket. Each command has a module of its own, imported when it runs."""
