"""Judgements on the objects of a bucket: what brings them back to a moment; pure."""
