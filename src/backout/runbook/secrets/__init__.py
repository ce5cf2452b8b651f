"""Secrets: what is missing, and setting it."""
