"""Adapters to the outside world, one folder per vendor; they depend on ports and model only."""
