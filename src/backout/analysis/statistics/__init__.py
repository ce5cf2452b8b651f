"""The tests behind the detector: anytime-valid evidence on counts, and the laws of the baseline."""
