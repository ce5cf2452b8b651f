"""Counts of a flight recorder, the Tail Worker of `catalogue/recorder`: in its own object or, signed, in a bucket."""
