"""Information for people: events, causes, notices, timelines."""
