"""What `backout init` and similar commands read from a project, and what they write into its files."""
