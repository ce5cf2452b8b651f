"""Objects of a bucket: their versions, what brings them back to a moment, and what was done."""
