"""Xata: a new branch from another branch's backup."""
