"""Watches and verdicts as text and as JSON values."""
