"""Bringing a database back: to where, by which path, and the steps of each path."""
