"""Adapters on the team's own commands."""
