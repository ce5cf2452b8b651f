"""Releases on plain hosts behind Caddy: folders, a process each, and one route that says which of them is live."""
