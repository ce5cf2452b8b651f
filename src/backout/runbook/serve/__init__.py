"""What the pages of `backout serve` read, and what is asked for and permitted there."""
