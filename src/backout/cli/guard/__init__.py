"""`backout guard`: watching a deployment, and judging recorded traffic."""
