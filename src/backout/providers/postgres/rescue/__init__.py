"""The rescue: damaged rows and definitions come back, newer good ones stay."""
