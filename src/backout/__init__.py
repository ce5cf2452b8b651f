"""Packages and modules of backout; see docs/design.md."""

__version__ = "0.1.0"
