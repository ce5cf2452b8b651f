"""From a request to a version's workerd process and back: routing, processes, counts, tail events."""
