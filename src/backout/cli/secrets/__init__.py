"""`backout secrets`: names, what is missing, and setting values."""
