"""Neon: branches at a moment of the past, and snapshots."""
