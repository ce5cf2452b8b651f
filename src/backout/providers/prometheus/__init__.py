"""A Prometheus that scrapes the application: counts per version from its counters and histograms."""
