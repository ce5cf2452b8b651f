"""Rows before a damage and rows now, compared by other means than the rescue has: its SQL shares nothing with it."""
