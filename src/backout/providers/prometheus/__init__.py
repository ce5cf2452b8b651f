"""A Prometheus that scrapes the application: counts per version out of its counters and histograms."""
