"""`backout diagnose`: what is wrong, and why."""
