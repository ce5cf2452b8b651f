"""Adapters to the world outside, one folder per vendor; they know ports and model only."""
