"""Xata: branches, which are copies of another one as it is when they are made."""
