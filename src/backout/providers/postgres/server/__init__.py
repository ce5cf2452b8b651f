"""Servers: programs, processes, sessions, roles."""
