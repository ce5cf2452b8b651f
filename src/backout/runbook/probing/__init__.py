"""Sending requests to versions: the live one during a watch, both side by side, a target before it gets traffic."""
