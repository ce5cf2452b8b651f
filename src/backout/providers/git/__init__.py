"""Adapters on git."""
