"""Watching a deployment: from its first second to what follows from the verdict."""
