"""A host for releases: a real Caddy in front of processes that the operator pushes, over the twin's real services."""
