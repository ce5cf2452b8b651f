"""`backout serve`, and the logins and tokens of its pages."""
