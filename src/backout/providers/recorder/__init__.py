"""Signed counts that a flight recorder, the Tail Worker of `catalogue/recorder`, has stored in a bucket."""
