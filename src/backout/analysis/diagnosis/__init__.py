"""From logs and events to a cause."""
