"""The undo of a rescue: rows, tables and definitions go back to what they were before it."""
