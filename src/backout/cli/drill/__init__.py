"""`backout drill`: break something on purpose, and measure what follows. A module for each command."""
