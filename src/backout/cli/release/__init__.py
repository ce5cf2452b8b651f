"""`backout release`: a module for each command."""
